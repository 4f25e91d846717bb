//! Named, counter-based random streams: one seed, one stream per purpose, all of them in the checkpoint.
//!
//! A stream depends on the seed and its name alone, so that adding a consumer never shifts another one's numbers.

use rand::{Rng, SeedableRng, rand_core};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The source of all randomness of one seed's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// Streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed they come from.
    pub fn seed(self) -> u64 {
        self.seed
    }

    /// The stream called `name` (for instance `env/train`, `replay`, `policy_noise`), from its beginning.
    pub fn stream(self, name: &str) -> Stream {
        let mut hasher = Sha256::new();
        hasher.update(self.seed.to_le_bytes());
        hasher.update(name.as_bytes());
        Stream(ChaCha8Rng::from_seed(hasher.finalize().into()))
    }
}

/// One random stream. Its position is a counter; saving and restoring it is exact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Fills `values` with independent standard normal numbers.
    pub fn fill_normal(&mut self, values: &mut [f32]) {
        for value in values {
            *value = self.normal() as f32;
        }
    }

    /// A standard normal number.
    pub fn normal(&mut self) -> f64 {
        use rand_distr::{Distribution, StandardNormal};
        StandardNormal.sample(&mut self.0)
    }

    /// A uniform number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A uniform number in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A uniform index in `0..count` (`count` > 0).
    pub fn index(&mut self, count: usize) -> usize {
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }
}

impl rand_core::TryRng for Stream {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_name_alone() {
        let first: Vec<u64> = (0..4)
            .map({
                let mut s = Streams::new(1).stream("replay");
                move |_| s.next_u64()
            })
            .collect();
        let again: Vec<u64> = (0..4)
            .map({
                let mut s = Streams::new(1).stream("replay");
                move |_| s.next_u64()
            })
            .collect();
        assert_eq!(first, again);
        assert_ne!(first[0], Streams::new(1).stream("env/0").next_u64());
        assert_ne!(first[0], Streams::new(2).stream("replay").next_u64());
    }

    #[test]
    fn a_restored_stream_continues() {
        let mut stream = Streams::new(3).stream("policy_noise");
        let _ = (stream.normal(), stream.index(7));
        let saved = postcard::to_stdvec(&stream).expect("serialises");
        let expected: Vec<f64> = (0..8).map(|_| stream.normal()).collect();
        let mut restored: Stream = postcard::from_bytes(&saved).expect("reads back");
        assert_eq!(expected, (0..8).map(|_| restored.normal()).collect::<Vec<_>>());
    }
}
