//! Experts that come with the program. Each was made by `hype expert`; the `.json` beside its file has the command, the
//! seed, the commit where the build was told, its score on fresh episodes, and the file's digest.

use crate::error::{Error, Result};

/// A shipped policy.
#[derive(Debug)]
pub struct Expert {
    /// The task that it was trained on.
    pub task: &'static str,
    /// The policy as an ONNX file.
    pub onnx: &'static [u8],
    certificate: &'static str,
}

const SHIPPED: [Expert; 8] = [
    Expert {
        task: "ant",
        onnx: include_bytes!("../experts/ant.onnx"),
        certificate: include_str!("../experts/ant.json"),
    },
    Expert {
        task: "half-cheetah",
        onnx: include_bytes!("../experts/half-cheetah.onnx"),
        certificate: include_str!("../experts/half-cheetah.json"),
    },
    Expert {
        task: "half-cheetah-backward",
        onnx: include_bytes!("../experts/half-cheetah-backward.onnx"),
        certificate: include_str!("../experts/half-cheetah-backward.json"),
    },
    Expert {
        task: "half-cheetah-speed-2",
        onnx: include_bytes!("../experts/half-cheetah-speed-2.onnx"),
        certificate: include_str!("../experts/half-cheetah-speed-2.json"),
    },
    Expert {
        task: "hopper",
        onnx: include_bytes!("../experts/hopper.onnx"),
        certificate: include_str!("../experts/hopper.json"),
    },
    Expert {
        task: "humanoid",
        onnx: include_bytes!("../experts/humanoid.onnx"),
        certificate: include_str!("../experts/humanoid.json"),
    },
    Expert {
        task: "pendulum",
        onnx: include_bytes!("../experts/pendulum.onnx"),
        certificate: include_str!("../experts/pendulum.json"),
    },
    Expert {
        task: "walker2d",
        onnx: include_bytes!("../experts/walker2d.onnx"),
        certificate: include_str!("../experts/walker2d.json"),
    },
];

impl Expert {
    /// Mean return over fresh episodes, from the certificate.
    pub fn mean_return(&self) -> Option<f64> {
        serde_json::from_str::<serde_json::Value>(self.certificate).ok()?["return_mean"].as_f64()
    }
}

/// The expert of exactly this task, if one ships.
pub fn find(task: &str) -> Option<&'static Expert> {
    SHIPPED.iter().find(|expert| expert.task == task)
}

/// The expert of `task`, or an error that says which there are.
pub fn expert(task: &str) -> Result<&'static Expert> {
    find(task).ok_or_else(|| {
        let known: Vec<&str> = SHIPPED.iter().map(|expert| expert.task).collect();
        Error::config(format!("there is no shipped expert for `{task}`"))
            .expected(format!("one of {}", known.join(", ")))
            .hint(format!("train one: hype expert {task} -o {task}-expert.onnx"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::files::sha256;

    #[test]
    fn shipped_experts_are_good_and_certified() {
        for (task, least) in [
            ("ant", 4000.0),
            ("half-cheetah", 8000.0),
            ("half-cheetah-backward", 7000.0),
            ("half-cheetah-speed-2", -200.0),
            ("hopper", 3000.0),
            ("humanoid", 4000.0),
            ("pendulum", -200.0),
            ("walker2d", 4000.0),
        ] {
            let expert = expert(task).unwrap();
            assert!(expert.mean_return().unwrap() >= least, "{task}");
            let certificate: serde_json::Value = serde_json::from_str(expert.certificate).unwrap();
            assert_eq!(certificate["sha256"], sha256(expert.onnx), "{task}: the certificate is another file's");
        }
        let text = expert("humanoid-truncated").unwrap_err().to_string();
        assert!(
            text.contains(
                "ant, half-cheetah, half-cheetah-backward, half-cheetah-speed-2, hopper, humanoid, pendulum, walker2d"
            ) && text.contains("hype expert humanoid-truncated"),
            "{text}"
        );
    }
}
