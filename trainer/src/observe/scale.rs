//! Returns as shares of the expert's.

/// What a return is measured against.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scale {
    /// The expert's mean return.
    pub expert_return: Option<f64>,
    /// The mean return of uniformly random actions.
    pub random_return: Option<f64>,
}

impl Scale {
    /// `value` as a share of the expert's return: 0 is the random policy where its return is known (returns below zero
    /// have no other meaning), otherwise 0 is a return of zero. None without a usable expert.
    pub fn share(self, value: f64) -> Option<f64> {
        let expert = self.expert_return?;
        let zero = self.random_return.unwrap_or(0.0);
        (expert > zero).then(|| (value - zero) / (expert - zero))
    }

    /// That share in words.
    pub fn percent(self, value: f64) -> Option<String> {
        // Adding 0 makes -0 a plain 0.
        self.share(value).map(|share| format!("{} % of expert", (100.0 * share).round() + 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_expert() {
        let both = Scale { expert_return: Some(-150.0), random_return: Some(-1250.0) };
        assert_eq!(both.share(-700.0), Some(0.5));
        assert_eq!(Scale { random_return: None, ..both }.share(-700.0), None, "a negative expert alone is no scale");
        assert_eq!(Scale { expert_return: Some(3570.0), random_return: None }.share(1785.0), Some(0.5));
        assert_eq!(Scale::default().share(1.0), None);
        assert_eq!([-700.0, -1251.0].map(|value| both.percent(value).unwrap()), ["50 % of expert", "0 % of expert"]);
    }
}
