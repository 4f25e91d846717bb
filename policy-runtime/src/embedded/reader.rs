//! A blob, opened where it lies. docs/FORMAT.md is the description that this follows.

use super::decode::Decoder;
use super::{
    ALIGNMENT, BlobError, Header, Layer, MAGIC, MAX_GOLDEN, PREFIX_BYTES, Precision, Text, VERSION, crc32, int8,
};
use crate::action::Bounds;
use crate::guard::{Dampers, Fallback, Guard, Rules};
use crate::kernel::Activation;

/// Weights of a matrix as they lie in the blob.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// Blocks of 8, 4, 2 and 1 outputs; within a block `[inputs, block]` row-major.
    F32(&'a [f32]),
    /// Four to a word.
    Int8 {
        /// `[outputs, inputs / 4 rounded up]`
        words: &'a [u32],
        /// `[outputs]`
        scales: &'a [f32],
    },
}

/// `input · weights + bias`
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// Width of the input.
    pub inputs: usize,
    /// Width of the output.
    pub outputs: usize,
    /// Weights.
    pub weights: Weights<'a>,
    /// `[outputs]`
    pub bias: &'a [f32],
}

/// A layer with its numbers.
#[derive(Debug, Clone, Copy)]
pub struct LayerView<'a> {
    /// Its shape.
    pub layer: Layer,
    /// The matrix; of an LSTM that of `[input; state]`, of a GRU that of the input.
    pub matrix: Matrix<'a>,
    /// The matrix of a GRU's state.
    pub of_state: Option<Matrix<'a>>,
}

/// An opened blob: what docs/FORMAT.md lists under "What is refused" was checked.
#[derive(Debug, Clone)]
pub struct Blob<'a> {
    header: Header<'a>,
    channels: &'a [u8],
    bytes: usize,
    width: usize,
    state_width: usize,
    weights_crc32: u32,
    action: [&'a [f32]; 2],
    observation: [&'a [f32]; 2],
    fixed: &'a [f32],
    dampers: Dampers<'a>,
    max_change: &'a [f32],
    normalizer: Option<[&'a [f32]; 2]>,
    affine: [&'a [f32]; 2],
    clamp: [&'a [f32]; 2],
    matrices: Rows<'a>,
    golden: &'a [f32],
}

impl Matrix<'_> {
    fn is_finite(&self) -> bool {
        let (Weights::F32(row) | Weights::Int8 { scales: row, .. }) = self.weights;
        row.iter().chain(self.bias).all(|value| value.is_finite())
    }
}

/// Takes rows off the front of the data section.
#[derive(Debug, Clone)]
pub(super) struct Rows<'a>(pub(super) &'a [u32]);

impl<'a> Rows<'a> {
    fn words(&mut self, len: usize) -> Result<&'a [u32], BlobError> {
        const ROW: usize = ALIGNMENT / 4;
        let padded = len.checked_next_multiple_of(ROW).ok_or(BlobError::Shape)?;
        let (row, rest) = self.0.split_at_checked(padded).ok_or(BlobError::Shape)?;
        self.0 = rest;
        row.get(..len).ok_or(BlobError::Shape)
    }

    fn numbers(&mut self, len: usize) -> Result<&'a [f32], BlobError> {
        bytemuck::try_cast_slice(self.words(len)?).map_err(|_| BlobError::Alignment)
    }

    pub(super) fn finite(&mut self, len: usize) -> Result<&'a [f32], BlobError> {
        self.numbers(len).and_then(|row| check(row, row.iter().all(|value| value.is_finite())))
    }

    fn positive(&mut self, len: usize) -> Result<&'a [f32], BlobError> {
        self.finite(len).and_then(|row| check(row, row.iter().all(|value| *value > 0.0)))
    }

    /// Lower and upper bounds in order; NaN is refused.
    fn bounds(&mut self, len: usize) -> Result<[&'a [f32]; 2], BlobError> {
        let (low, high) = (self.numbers(len)?, self.numbers(len)?);
        check([low, high], low.iter().zip(high).all(|(low, high)| low < high))
    }

    fn dampers(&mut self, observation: usize, action: usize) -> Result<Dampers<'a>, BlobError> {
        let (velocity, gain) = (self.words(action)?, self.finite(action)?);
        let good = |(velocity, gain): (&u32, &f32)| {
            *velocity == Dampers::NONE || (*velocity as usize) < observation && *gain > 0.0
        };
        check(Dampers { velocity, gain }, velocity.iter().zip(gain).all(good))
    }

    fn matrix(&mut self, precision: Precision, inputs: usize, outputs: usize) -> Result<Matrix<'a>, BlobError> {
        let size = |width: usize| width.checked_mul(outputs).ok_or(BlobError::Shape);
        let weights = match precision {
            Precision::F32 => Weights::F32(self.numbers(size(inputs)?)?),
            Precision::Int8 => {
                let words = self.words(size(int8::words(inputs))?)?;
                Weights::Int8 { words, scales: self.numbers(outputs)? }
            }
        };
        Ok(Matrix { inputs, outputs, weights, bias: self.numbers(outputs)? })
    }

    fn layer(&mut self, precision: Precision, layer: Layer) -> Result<LayerView<'a>, BlobError> {
        let (inputs, outputs) = (layer.inputs(), layer.outputs());
        let (matrix, of_state) = match layer {
            Layer::Dense { .. } => (self.matrix(precision, inputs, outputs)?, None),
            Layer::Lstm { .. } => (self.matrix(precision, inputs + outputs, 4 * outputs)?, None),
            Layer::Gru { .. } => {
                (self.matrix(precision, inputs, 3 * outputs)?, Some(self.matrix(precision, outputs, 3 * outputs)?))
            }
        };
        Ok(LayerView { layer, matrix, of_state })
    }
}

fn check<T>(value: T, good: bool) -> Result<T, BlobError> {
    if good { Ok(value) } else { Err(BlobError::Number) }
}

/// A row where the header says that there is one.
fn optional<T: Default>(there: bool, row: impl FnOnce() -> Result<T, BlobError>) -> Result<T, BlobError> {
    if there { row() } else { Ok(T::default()) }
}

pub(super) fn word(bytes: &[u8], at: usize) -> Result<usize, BlobError> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(BlobError::Size)?;
    Ok(u32::from_le_bytes(*bytes) as usize)
}

/// The sections of a blob, their digests checked.
struct Sections<'a> {
    header: &'a [u8],
    channels: &'a [u8],
    data: &'a [u32],
    data_crc32: u32,
    bytes: usize,
}

fn sections(memory: &[u8]) -> Result<Sections<'_>, BlobError> {
    if cfg!(not(target_endian = "little")) {
        return Err(BlobError::Endianness);
    }
    let prefix = memory.get(..PREFIX_BYTES).ok_or(BlobError::Size)?;
    if prefix.first_chunk() != Some(&MAGIC) {
        return Err(BlobError::Magic);
    }
    let version_and_reserved = word(prefix, 8)?;
    if version_and_reserved != usize::from(VERSION) {
        return Err(BlobError::Version);
    }
    if crc32(prefix.get(..60).unwrap_or(&[])) as usize != word(prefix, 60)? {
        return Err(BlobError::PrefixDigest);
    }
    // A later writer's.
    if prefix.get(36..60).is_none_or(|reserved| reserved.iter().any(|byte| *byte != 0)) {
        return Err(BlobError::Version);
    }
    let (header_bytes, channel_bytes) = (word(prefix, 12)?, word(prefix, 16)?);
    let (data_start, data_bytes) = (word(prefix, 20)?, word(prefix, 24)?);
    if memory.as_ptr().align_offset(ALIGNMENT) != 0 || data_start % ALIGNMENT != 0 || data_bytes % ALIGNMENT != 0 {
        return Err(BlobError::Alignment);
    }
    let channels_start = PREFIX_BYTES.checked_add(header_bytes).ok_or(BlobError::Size)?;
    let text_end = channels_start.checked_add(channel_bytes).ok_or(BlobError::Size)?;
    if text_end > data_start || data_start - text_end >= ALIGNMENT {
        return Err(BlobError::Size);
    }
    let end = data_start.checked_add(data_bytes).ok_or(BlobError::Size)?;
    let text = memory.get(PREFIX_BYTES..data_start).ok_or(BlobError::Size)?;
    let data = memory.get(data_start..end).ok_or(BlobError::Size)?;
    if crc32(text) as usize != word(prefix, 28)? {
        return Err(BlobError::HeaderDigest);
    }
    let data_crc32 = crc32(data);
    if data_crc32 as usize != word(prefix, 32)? {
        return Err(BlobError::DataDigest);
    }
    Ok(Sections {
        header: memory.get(PREFIX_BYTES..channels_start).ok_or(BlobError::Size)?,
        channels: memory.get(channels_start..text_end).ok_or(BlobError::Size)?,
        data: bytemuck::try_cast_slice(data).map_err(|_| BlobError::Alignment)?,
        data_crc32,
        bytes: end,
    })
}

impl<'a> Blob<'a> {
    /// Opens the blob at the start of `memory`, which may be longer, as a region of flash is. Reads every byte once for the
    /// digests; copies none of the data section.
    ///
    /// # Errors
    /// The first defect.
    #[inline(never)]
    pub fn open(memory: &'a [u8]) -> Result<Self, BlobError> {
        let Sections { header, channels, data, data_crc32, bytes } = sections(memory)?;
        let mut decoder = Decoder(header);
        let header = decoder.header().ok_or(BlobError::Header)?;
        if !decoder.0.is_empty() {
            return Err(BlobError::Header);
        }
        let (observation, action) = (usize::from(header.observation), usize::from(header.action));
        check_shapes(&header)?;

        let mut rows = Rows(data);
        let action_bounds = rows.bounds(action)?;
        check((), action_bounds.iter().all(|row| row.iter().all(|bound| bound.is_finite())))?;
        let observation_bounds = optional(header.ranges, || rows.bounds(observation))?;
        let fixed = optional(header.fixed, || rows.finite(action))?;
        let dampers = optional(header.dampers, || rows.dampers(observation, action))?;
        let max_change = optional(header.max_change, || {
            rows.numbers(action).and_then(|row| check(row, row.iter().all(|most| *most > 0.0)))
        })?;
        let normalizer = match header.normalized {
            true => Some([rows.finite(observation)?, rows.positive(observation)?]),
            false => None,
        };
        let affine = [rows.positive(action)?, rows.finite(action)?];
        let clamp = rows.bounds(action)?;
        let matrices = rows.clone();
        let (mut width, mut state_width) = (observation.max(action), 0);
        for layer in &header.layers {
            width = width.max(layer.width());
            state_width += layer.state();
            let view = rows.layer(header.precision, *layer)?;
            check((), view.matrix.is_finite() && view.of_state.is_none_or(|matrix| matrix.is_finite()))?;
        }
        let golden = rows.finite(usize::from(header.golden) * (observation + action))?;
        if !rows.0.is_empty() {
            return Err(BlobError::Shape);
        }
        let blob = Self {
            channels,
            bytes,
            width,
            state_width,
            weights_crc32: data_crc32,
            action: action_bounds,
            observation: observation_bounds,
            fixed,
            dampers,
            max_change,
            normalizer,
            affine,
            clamp,
            matrices,
            golden,
            header,
        };
        match blob.channels().filter(Option::is_some).count() == observation + action {
            true => Ok(blob),
            false => Err(BlobError::Header),
        }
    }

    /// What the blob says about itself.
    pub fn header(&self) -> &Header<'a> {
        &self.header
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// CRC-32 of the data section: tells one policy from another.
    pub fn crc32(&self) -> u32 {
        self.weights_crc32
    }

    /// Number of observation channels.
    pub fn observation_width(&self) -> usize {
        self.header.observation.into()
    }

    /// Number of action channels.
    pub fn action_width(&self) -> usize {
        self.header.action.into()
    }

    /// Numbers in each of the two rows that [`run`](super::run) works in.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Numbers that are kept from step to step.
    pub fn state_width(&self) -> usize {
        self.state_width
    }

    /// Multiplications of one step.
    pub fn multiplications(&self) -> usize {
        self.header.layers.iter().map(|layer| layer.multiplications()).sum()
    }

    /// Layers with their numbers. They are found anew each time, since where they lie takes a kilobyte to remember.
    pub fn layers(&self) -> impl Iterator<Item = LayerView<'a>> {
        let mut rows = self.matrices.clone();
        self.header.layers.iter().map_while(move |layer| rows.layer(self.header.precision, *layer).ok())
    }

    /// Mean and standard deviation of the observation, `[observation]` each.
    pub fn normalizer(&self) -> Option<[&'a [f32]; 2]> {
        self.normalizer
    }

    /// Scale and offset from `action_unit` to `action_env`, `[action]` each.
    pub fn affine(&self) -> [&'a [f32]; 2] {
        self.affine
    }

    /// What the policy itself clamps its action to, `[action]` each.
    pub fn clamp(&self) -> [&'a [f32]; 2] {
        self.clamp
    }

    /// Names and units, observation channels first.
    pub fn channels(&self) -> Channels<'a> {
        let left = self.observation_width() + self.action_width();
        Channels { rest: Decoder(self.channels), left }
    }

    /// Observation and action of each golden vector. They were recorded one after another from a fresh state.
    pub fn golden(&self) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
        let (observation, action) = (self.observation_width(), self.action_width());
        self.golden.chunks_exact(observation + action).map(move |row| row.split_at(observation))
    }

    /// What the contract wants checked and kept.
    pub fn rules(&self) -> Rules<'a> {
        let Header { max_age_nanos, fallback, entry_ticks, exit_ticks, deadline_nanos, max_faults, .. } = self.header;
        Rules {
            guard: Guard {
                observation_width: self.observation_width(),
                action_width: self.action_width(),
                max_age_nanos,
                fallback,
            },
            action: Bounds { low: self.action[0], high: self.action[1] },
            observation: Bounds { low: self.observation[0], high: self.observation[1] },
            fixed: self.fixed,
            dampers: self.dampers,
            max_change: self.max_change,
            entry_ticks,
            exit_ticks,
            deadline_nanos,
            max_faults,
        }
    }
}

/// Widths that are not zero and follow from each other; times that a loop can run with; rows that the fallback needs.
fn check_shapes(header: &Header<'_>) -> Result<(), BlobError> {
    let mut width = usize::from(header.observation);
    for layer in &header.layers {
        if layer.inputs() == 0 || layer.outputs() == 0 || layer.inputs() != width {
            return Err(BlobError::Shape);
        }
        width = layer.outputs();
    }
    if header.layers.is_empty() || header.action == 0 || width != usize::from(header.action) {
        return Err(BlobError::Shape);
    }
    let complete = match header.fallback {
        Fallback::Fixed => header.fixed,
        Fallback::Damping => header.dampers,
        _ => true,
    };
    if !complete || !matches!(header.squash, Activation::Identity | Activation::Tanh) {
        return Err(BlobError::Header);
    }
    if header.control_period_nanos == 0 {
        return Err(BlobError::Number);
    }
    if header.golden == 0 || header.golden > MAX_GOLDEN { Err(BlobError::Golden) } else { Ok(()) }
}

/// Names and units of channels, decoded one by one.
#[derive(Debug, Clone)]
pub struct Channels<'a> {
    rest: Decoder<'a>,
    left: usize,
}

impl<'a> Iterator for Channels<'a> {
    /// Name and unit; `None` where the section cannot be decoded.
    type Item = Option<(Text<'a>, Text<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let text = self.rest.text().and_then(|name| Some((name, self.rest.text()?)));
        // What is left over belongs to no channel.
        Some(text.filter(|_| self.left > 0 || self.rest.0.is_empty()))
    }
}
