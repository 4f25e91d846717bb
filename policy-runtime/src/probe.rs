//! Inputs for comparing executions: random, boundary and demonstration rows.

use crate::contract::Contract;
use crate::selfcheck::ProbeKind;

/// How many standard deviations from the middle an unbounded channel's boundary lies.
const BOUNDARY_DEVIATIONS: f32 = 10.0;
/// Most demonstration rows that become probes.
const MOST_DEMONSTRATION_ROWS: usize = 256;

/// One input of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Where it came from.
    pub kind: ProbeKind,
    /// `[observation]`, raw units.
    pub observation: Vec<f32>,
    /// `[action]`, environment units: what a discriminator is asked about.
    pub action: Vec<f32>,
}

/// Rows from demonstrations, or none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demonstrations {
    /// `[rows, observation]`, raw units, row-major.
    pub observations: Vec<f32>,
    /// `[rows, action]`, environment units, row-major.
    pub actions: Vec<f32>,
}

/// A small counter-based generator (splitmix64): the same seed gives the same probes everywhere.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// A generator of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform over all 64-bit values.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1 << 24) as f32
    }

    /// Standard normal (Box-Muller).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (core::f32::consts::TAU * self.unit()).cos()
    }
}

/// The usual range of one channel.
#[derive(Debug, Clone, Copy)]
struct Range {
    middle: f32,
    spread: f32,
    low: f32,
    high: f32,
    bounded: bool,
    /// What the contract says, infinite where it says nothing.
    declared: [f32; 2],
}

impl Range {
    fn draw(&self, draws: &mut Draws) -> f32 {
        if self.bounded {
            (self.low + (self.high - self.low) * draws.unit()).clamp(self.low, self.high)
        } else {
            let [floor, ceiling] = self.declared;
            (self.middle + self.spread * draws.normal()).max(floor).min(ceiling)
        }
    }
}

/// Demonstration rows (at most 256, evenly spread), `random_rows` random ones, and boundary rows: all channels at zero,
/// low, or high, and each channel alone at low and at high. A channel without bounds has them 10 standard deviations
/// from the demonstrations' mean.
pub fn probes(contract: &Contract, demonstrations: &Demonstrations, random_rows: usize, seed: u64) -> Vec<Probe> {
    let (width, action_width) = (contract.observation.len(), contract.action.len());
    let rows: Vec<&[f32]> = demonstrations.observations.chunks_exact(width).collect();
    let ranges = ranges(contract, &rows);
    let (low, high) = (contract.action_low(), contract.action_high());
    let mut draws = Draws::new(seed);
    let mut action = || -> Vec<f32> {
        low.iter().zip(&high).map(|(low, high)| (low + (high - low) * draws.unit()).clamp(*low, *high)).collect()
    };
    let mut probes = Vec::new();

    let actions: Vec<&[f32]> = demonstrations.actions.chunks_exact(action_width).collect();
    let taken = rows.len().min(MOST_DEMONSTRATION_ROWS);
    for index in 0..taken {
        let row = index * rows.len() / taken;
        let action = actions.get(row).map_or_else(&mut action, |action| action.to_vec());
        probes.push(Probe { kind: ProbeKind::Demonstration, observation: rows[row].to_vec(), action });
    }

    let mut observation_draws = Draws::new(seed ^ 0x6f62_7365_7276_6564);
    for _ in 0..random_rows {
        let observation = ranges.iter().map(|range| range.draw(&mut observation_draws)).collect();
        probes.push(Probe { kind: ProbeKind::Random, observation, action: action() });
    }

    let mut boundary = |observation: Vec<f32>, action: Vec<f32>| {
        probes.push(Probe { kind: ProbeKind::Boundary, observation, action });
    };
    boundary(vec![0.0; width], low.clone());
    boundary(ranges.iter().map(|range| range.low).collect(), low.clone());
    boundary(ranges.iter().map(|range| range.high).collect(), high.clone());
    for (index, range) in ranges.iter().enumerate() {
        for (edge, action) in [(range.low, &low), (range.high, &high)] {
            let mut observation: Vec<f32> = ranges.iter().map(|range| range.middle).collect();
            observation[index] = edge;
            boundary(observation, action.clone());
        }
    }
    probes
}

fn ranges(contract: &Contract, rows: &[&[f32]]) -> Vec<Range> {
    let range = |(index, channel): (usize, &crate::Channel)| {
        let (middle, spread) = moments(rows.iter().map(|row| f64::from(row[index])));
        let declared = [channel.low.unwrap_or(f32::NEG_INFINITY), channel.high.unwrap_or(f32::INFINITY)];
        match channel.bounds() {
            Some((low, high)) => Range {
                middle: low + 0.5 * (high - low),
                spread: 0.25 * (high - low),
                low,
                high,
                bounded: true,
                declared,
            },
            None => {
                let reach = BOUNDARY_DEVIATIONS * spread;
                let low = channel.low.unwrap_or(middle - reach);
                let high = channel.high.unwrap_or(middle + reach);
                Range { middle, spread, low, high, bounded: false, declared }
            }
        }
    };
    contract.observation.iter().enumerate().map(range).collect()
}

/// Mean and standard deviation; 0 and 1 without values, and never a spread of zero.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f32, f32) {
    let count = values.clone().count() as f64;
    if count == 0.0 {
        return (0.0, 1.0);
    }
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    (mean as f32, (variance.sqrt() as f32).max(1e-3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Channel;

    fn contract() -> Contract {
        Contract {
            task: "t".into(),
            observation: vec![Channel::bounded("a", "1", -1.0, 3.0), Channel::unbounded("b", "1")],
            action: vec![Channel::bounded("c", "1", -2.0, 2.0)],
            control_period_secs: 0.01,
            fallback: crate::Fallback::Zero,
            max_observation_age_secs: None,
            guards: Default::default(),
        }
    }

    #[test]
    fn probes_cover_all_three_kinds_and_stay_in_their_ranges() {
        let demonstrations = Demonstrations { observations: vec![0.0, 9.0, 1.0, 11.0], actions: vec![0.5, -0.5] };
        let rows = probes(&contract(), &demonstrations, 50, 7);
        let of = |kind| rows.iter().filter(move |probe| probe.kind == kind);
        assert_eq!(of(ProbeKind::Demonstration).count(), 2);
        assert_eq!(of(ProbeKind::Demonstration).next_back().unwrap().action, [-0.5]);
        assert_eq!(of(ProbeKind::Random).count(), 50);
        assert!(of(ProbeKind::Random).all(|probe| (-1.0..=3.0).contains(&probe.observation[0])));
        assert!(rows.iter().all(|probe| probe.action[0].abs() <= 2.0));
        let corners: Vec<_> = of(ProbeKind::Boundary).map(|probe| probe.observation.clone()).collect();
        assert_eq!(corners.len(), 7);
        assert!(
            corners.contains(&vec![0.0, 0.0])
                && corners.contains(&vec![3.0, 20.0])
                && corners.contains(&vec![1.0, 0.0])
        );
        assert_eq!(rows, probes(&contract(), &demonstrations, 50, 7), "the same seed gives the same probes");
    }

    #[test]
    fn normal_draws_have_mean_zero_and_unit_spread() {
        let mut draws = Draws::new(1);
        let values: Vec<f64> = (0..20_000).map(|_| f64::from(draws.normal())).collect();
        let (mean, spread) = moments(values.iter().copied());
        assert!(mean.abs() < 0.03 && (spread - 1.0).abs() < 0.03, "{mean} {spread}");
    }
}
