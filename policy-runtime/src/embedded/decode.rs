//! postcard's encoding, as far as a blob needs it. The derived decoder of serde takes three kilobytes of a microcontroller's
//! flash for the header, this one less than one; the tests hold them against each other.

use core::num::NonZeroU32;

use super::header::{Header, Layer, Precision, Text};
use crate::guard::Fallback;
use crate::kernel::Activation;

/// Takes values off the front of some bytes; `None` where there is no such value.
#[derive(Debug, Clone)]
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// A whole number of at most `bits` bits, seven to a byte.
    fn number(&mut self, bits: u32) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        while shift < bits {
            let byte = self.byte()?;
            if bits - shift < 7 && byte >> (bits - shift) != 0 {
                return None;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
        None
    }

    fn short(&mut self) -> Option<u16> {
        Some(self.number(16)? as u16)
    }

    fn word(&mut self) -> Option<u32> {
        Some(self.number(32)? as u32)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn optional<T>(&mut self, value: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { value(self).map(Some) } else { Some(None) }
    }

    fn long_or_none(&mut self) -> Option<Option<u64>> {
        self.optional(|it| it.number(64))
    }

    /// Length and bytes.
    pub(super) fn text(&mut self) -> Option<Text<'a>> {
        let length = self.word()? as usize;
        self.bytes(length).map(Text)
    }

    fn digest(&mut self) -> Option<&'a [u8; 32]> {
        self.bytes(32)?.first_chunk()
    }

    fn activation(&mut self) -> Option<Activation> {
        Some(match self.word()? {
            0 => Activation::Identity,
            1 => Activation::Relu,
            2 => Activation::Tanh,
            3 => Activation::Sigmoid,
            4 => Activation::Silu,
            5 => Activation::Elu,
            _ => return None,
        })
    }

    fn layer(&mut self) -> Option<Layer> {
        let kind = self.word()?;
        let (inputs, hidden) = (self.short()?, self.short()?);
        Some(match kind {
            0 => Layer::Dense { inputs, outputs: hidden, activation: self.activation()? },
            1 => Layer::Lstm { inputs, hidden },
            2 => Layer::Gru { inputs, hidden },
            _ => return None,
        })
    }

    pub(super) fn header(&mut self) -> Option<Header<'a>> {
        Some(Header {
            task: self.text()?,
            observation: self.short()?,
            action: self.short()?,
            control_period_nanos: self.number(64)?,
            max_age_nanos: self.long_or_none()?,
            fallback: match self.word()? {
                0 => Fallback::Zero,
                1 => Fallback::Hold,
                2 => Fallback::Fixed,
                3 => Fallback::Damping,
                _ => return None,
            },
            entry_ticks: self.word()?,
            exit_ticks: self.word()?,
            deadline_nanos: self.long_or_none()?,
            max_faults: self.optional(|it| NonZeroU32::new(it.word()?))?,
            contract_sha256: self.digest()?,
            model_sha256: self.digest()?,
            precision: match self.word()? {
                0 => Precision::F32,
                1 => Precision::Int8,
                _ => return None,
            },
            normalized: self.flag()?,
            ranges: self.flag()?,
            fixed: self.flag()?,
            dampers: self.flag()?,
            max_change: self.flag()?,
            squash: self.activation()?,
            layers: {
                let mut layers = heapless::Vec::new();
                for _ in 0..self.word()? {
                    layers.push(self.layer()?).ok()?;
                }
                layers
            },
            golden: self.short()?,
        })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;
    use crate::embedded::MAX_LAYERS;
    use crate::probe::Draws;
    use serde::Deserialize;

    /// [`Header`], decoded by postcard itself.
    #[derive(Debug, Deserialize)]
    struct Derived<'a> {
        task: &'a [u8],
        observation: u16,
        action: u16,
        control_period_nanos: u64,
        max_age_nanos: Option<u64>,
        fallback: Fallback,
        entry_ticks: u32,
        exit_ticks: u32,
        deadline_nanos: Option<u64>,
        max_faults: Option<NonZeroU32>,
        contract_sha256: [u8; 32],
        model_sha256: [u8; 32],
        precision: Precision,
        normalized: bool,
        ranges: bool,
        fixed: bool,
        dampers: bool,
        max_change: bool,
        squash: Activation,
        layers: heapless::Vec<Layer, MAX_LAYERS>,
        golden: u16,
    }

    impl<'a> Derived<'a> {
        fn header(&'a self) -> Header<'a> {
            Header {
                task: Text(self.task),
                observation: self.observation,
                action: self.action,
                control_period_nanos: self.control_period_nanos,
                max_age_nanos: self.max_age_nanos,
                fallback: self.fallback,
                entry_ticks: self.entry_ticks,
                exit_ticks: self.exit_ticks,
                deadline_nanos: self.deadline_nanos,
                max_faults: self.max_faults,
                contract_sha256: &self.contract_sha256,
                model_sha256: &self.model_sha256,
                precision: self.precision,
                normalized: self.normalized,
                ranges: self.ranges,
                fixed: self.fixed,
                dampers: self.dampers,
                max_change: self.max_change,
                squash: self.squash,
                layers: self.layers.clone(),
                golden: self.golden,
            }
        }
    }

    fn random<'a>(draws: &mut Draws, digests: &'a [[u8; 32]; 2]) -> Header<'a> {
        let mut below = |most: u64| draws.next_u64() % most;
        let long = |draw: u64| [draw % 200, draw % (1 << 40), draw][(draw % 3) as usize];
        let activations = [
            Activation::Identity,
            Activation::Relu,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Elu,
        ];
        let mut layers = heapless::Vec::new();
        for _ in 0..below(17) {
            let (inputs, hidden) = (below(1 << 16) as u16, below(300) as u16);
            let activation = activations[below(6) as usize];
            let layer = match below(3) {
                0 => Layer::Dense { inputs, outputs: hidden, activation },
                1 => Layer::Lstm { inputs, hidden },
                _ => Layer::Gru { inputs, hidden },
            };
            layers.push(layer).unwrap();
        }
        Header {
            task: Text(["", "hopper", "ein Hüpfer"][below(3) as usize].as_bytes()),
            observation: below(1 << 16) as u16,
            action: below(128) as u16,
            control_period_nanos: long(below(u64::MAX)),
            max_age_nanos: (below(2) == 1).then(|| long(below(u64::MAX))),
            fallback: [Fallback::Zero, Fallback::Hold, Fallback::Fixed, Fallback::Damping][below(4) as usize],
            entry_ticks: below(1 << 32) as u32,
            exit_ticks: below(300) as u32,
            deadline_nanos: (below(2) == 1).then(|| long(below(u64::MAX))),
            max_faults: NonZeroU32::new(below(3) as u32),
            contract_sha256: &digests[0],
            model_sha256: &digests[1],
            precision: if below(2) == 1 { Precision::Int8 } else { Precision::F32 },
            normalized: below(2) == 1,
            ranges: below(2) == 1,
            fixed: below(2) == 1,
            dampers: below(2) == 1,
            max_change: below(2) == 1,
            squash: activations[below(6) as usize],
            layers,
            golden: below(64) as u16,
        }
    }

    #[test]
    fn headers_are_decoded_as_postcard_does_whatever_happened_to_them() {
        let mut draws = Draws::new(31);
        let digests = [[0xa5; 32], std::array::from_fn(|index| index as u8)];
        let (mut equal, mut refused) = (0, 0);
        for round in 0..20_000 {
            let header = random(&mut draws, &digests);
            let mut bytes = postcard::to_slice(&header, &mut [0; 512]).unwrap().to_vec();
            if round % 8 == 0 {
                assert_eq!(Decoder(&bytes).header().as_ref(), Some(&header));
            } else {
                for _ in 0..=draws.next_u64() % 3 {
                    let at = draws.next_u64() as usize % bytes.len();
                    bytes[at] = match draws.next_u64() % 4 {
                        0 => draws.next_u64() as u8,
                        1 => bytes[at] ^ 0x80,
                        2 => bytes[at].wrapping_add(1),
                        _ => 0xff,
                    };
                }
                bytes.truncate(bytes.len() - (draws.next_u64() % 2) as usize);
            }
            let mut decoder = Decoder(&bytes);
            let found = decoder.header();
            let derived = postcard::take_from_bytes::<Derived<'_>>(&bytes).ok();
            let wanted = derived.as_ref().map(|(derived, rest)| (derived.header(), *rest));
            equal += usize::from(found.is_some());
            refused += usize::from(found.is_none());
            assert_eq!(found.map(|found| (found, decoder.0)), wanted, "{bytes:?}");
        }
        assert!(equal > 5000 && refused > 2000, "{equal} decoded, {refused} refused");
    }
}
