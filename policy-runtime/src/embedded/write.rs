//! Makes a blob from a policy's layers. docs/FORMAT.md is the description that this follows.

use core::cmp::Ordering;

use sha2::{Digest, Sha256};

use super::heap::{BlobFile, HeapExecutor};
use super::{
    ALIGNMENT, Blob, Header, Layer, MAGIC, MAX_GOLDEN, MAX_LAYERS, PREFIX_BYTES, Precision, Text, VERSION, crc32, int8,
    kernel,
};
use crate::contract::{Contract, nanos_from_secs};
use crate::error::{Error, Result};
use crate::kernel::Activation;
use crate::safety::Safety;
use crate::spec::{Affine, Clamp, Dense, Normalizer, PolicyGraph, Squash};

/// How much more than the input of the largest magnitude another one may be enlarged. On three Hopper policies 8 halves the error on
/// and around demonstration states as 64 does, and does not raise it far from them, where 64 doubles it.
const MOST_GAIN: f32 = 8.0;

/// The weights of a recurrent layer, named and shaped as in PyTorch; gates one after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    /// Width of the input.
    pub inputs: usize,
    /// Width of state and output.
    pub hidden: usize,
    /// `[gates · hidden, inputs]`, row-major.
    pub weight_ih: Vec<f32>,
    /// `[gates · hidden, hidden]`, row-major.
    pub weight_hh: Vec<f32>,
    /// `[gates · hidden]`
    pub bias_ih: Vec<f32>,
    /// `[gates · hidden]`
    pub bias_hh: Vec<f32>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Dense.
    Dense(Dense),
    /// Gates: input, forget, cell, output.
    Lstm(Recurrent),
    /// Gates: reset, update, new.
    Gru(Recurrent),
}

/// A policy whose layers may be recurrent: `clamp(affine(squash(parts(normalizer(observation)))))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Input normaliser.
    pub normalizer: Option<Normalizer>,
    /// First to last.
    pub parts: Vec<Part>,
    /// From the last part's output to `action_unit`.
    pub squash: Squash,
    /// From `action_unit` to `action_env`.
    pub affine: Affine,
    /// Bounds of `action_env`.
    pub clamp: Clamp,
}

impl Network {
    /// The layers of `graph`.
    ///
    /// # Errors
    /// [`Error::Malformed`] where it is not valid or has no clamp.
    pub fn from_graph(graph: &PolicyGraph) -> Result<Self> {
        graph.validate()?;
        let clamp =
            graph.clamp.clone().ok_or_else(|| Error::malformed("policy clamp", "the action's bounds", "none"))?;
        Ok(Self {
            normalizer: graph.normalizer.clone(),
            parts: graph.mlp.layers.iter().cloned().map(Part::Dense).collect(),
            squash: graph.squash,
            affine: graph.affine.clone(),
            clamp,
        })
    }
}

impl Network {
    /// The same policy for eight bits: without a normaliser of its own, it gets one that brings every input to the magnitude that
    /// it has in `rows`, raw observations, at most; the first layer takes that back. One scale serves all inputs of a layer, and an
    /// angle beside a velocity would keep few of its bits.
    #[must_use]
    pub fn with_even_inputs(mut self, rows: &[&[f32]]) -> Self {
        let Some(width) = rows.first().map(|row| row.len()).filter(|_| self.normalizer.is_none()) else { return self };
        let mut std = vec![0.0_f32; width];
        for row in rows {
            std.iter_mut().zip(*row).for_each(|(most, value)| *most = most.max(value.abs()));
        }
        // A channel that hardly moves in `rows` may move elsewhere, and must not drown all others then.
        let least = std.iter().fold(0.0_f32, |most, value| most.max(*value)) / MOST_GAIN;
        if least <= 0.0 || !least.is_normal() {
            return self;
        }
        std.iter_mut().for_each(|std| *std = std.max(least));
        let scale = |weights: &mut [f32], input: fn(usize, usize, usize) -> usize, outputs: usize| {
            for (index, weight) in weights.iter_mut().enumerate() {
                *weight *= std.get(input(index, outputs, width)).copied().unwrap_or(1.0);
            }
        };
        match self.parts.first_mut() {
            Some(Part::Dense(layer)) => scale(&mut layer.weights, |index, outputs, _| index / outputs, layer.outputs),
            Some(Part::Lstm(layer) | Part::Gru(layer)) => {
                scale(&mut layer.weight_ih, |index, _, width| index % width, layer.hidden);
            }
            None => return self,
        }
        self.normalizer = Some(Normalizer { mean: vec![0.0; width], std });
        self
    }

    /// What a reader refuses in the rows around the layers, by name.
    fn check_numbers(&self, observation: usize, action: usize) -> Result<()> {
        if let Some(normalizer) = &self.normalizer {
            normalizer.validate("policy normaliser", observation)?;
        }
        self.affine.validate("policy action", action)?;
        let Clamp { low, high } = &self.clamp;
        check("policy clamp low", low, action)?;
        check("policy clamp high", high, action)?;
        match low.iter().zip(high).position(|(low, high)| low.partial_cmp(high) != Some(Ordering::Less)) {
            None => Ok(()),
            Some(index) => {
                let found = format!("low {}, high {}", low[index], high[index]);
                Err(Error::malformed(format!("policy clamp of action channel {index}"), "low below high", found))
            }
        }
    }
}

/// The blob of `network`. Its golden actions, one for each of `observations`, are what this machine computes in the
/// fixed order of operations; the caller compares them with training's.
///
/// # Errors
/// [`Error::Malformed`] where network, contract and observations do not fit each other or the format.
pub fn blob(
    contract: &Contract,
    network: &Network,
    precision: Precision,
    model_sha256: [u8; 32],
    observations: &[&[f32]],
) -> Result<BlobFile> {
    contract.validate()?;
    let (observation, action) = (contract.observation.len(), contract.action.len());
    if observations.is_empty() || observations.len() > usize::from(MAX_GOLDEN) {
        return Err(Error::malformed("golden vectors of a blob", format!("1 to {MAX_GOLDEN}"), observations.len()));
    }
    if let Some(row) = observations.iter().find(|row| row.len() != observation) {
        return Err(Error::malformed("golden observation", format!("{observation} numbers"), row.len()));
    }
    network.check_numbers(observation, action)?;
    let safety = Safety::of(contract);
    let contract_sha256 = contract_digest(contract)?;
    let digests = [&contract_sha256, &model_sha256];
    let header = header(contract, network, &safety, precision, digests, observations.len())?;
    let rules = safety.rules();
    let mut rows = Writer::default();
    rows.numbers(rules.action.low);
    rows.numbers(rules.action.high);
    if header.ranges {
        rows.numbers(rules.observation.low);
        rows.numbers(rules.observation.high);
    }
    if header.fixed {
        rows.numbers(rules.fixed);
    }
    if header.dampers {
        rows.words(rules.dampers.velocity);
        rows.numbers(rules.dampers.gain);
    }
    if header.max_change {
        rows.numbers(rules.max_change);
    }
    if let Some(Normalizer { mean, std }) = &network.normalizer {
        rows.numbers(mean);
        rows.numbers(std);
    }
    rows.numbers(&network.affine.scale);
    rows.numbers(&network.affine.offset);
    rows.numbers(&network.clamp.low);
    rows.numbers(&network.clamp.high);
    for part in &network.parts {
        rows.part(part, precision)?;
    }

    let mut golden = vec![0.0; observations.len() * (observation + action)];
    for (vector, row) in golden.chunks_exact_mut(observation + action).zip(observations) {
        vector[..observation].copy_from_slice(row);
    }
    let assemble = |golden: &[f32]| {
        let mut data = Writer(rows.0.clone());
        data.numbers(golden);
        file(&header, contract, &data.0)
    };
    // A first blob, whose golden actions are zeros, computes those of the second.
    let draft = assemble(&golden)?;
    let opened =
        Blob::open(draft.bytes()).map_err(|error| Error::malformed("the blob", "one that can be read", error))?;
    let mut executor = HeapExecutor::unchecked(opened);
    for vector in golden.chunks_exact_mut(observation + action) {
        let (observed, acted) = vector.split_at_mut(observation);
        executor.run(observed, acted)?;
    }
    let written = assemble(&golden)?;
    written.open().map_err(|error| Error::malformed("the blob", "one that can be read", error))?;
    Ok(written)
}

fn header<'a>(
    contract: &'a Contract,
    network: &Network,
    safety: &Safety,
    precision: Precision,
    digests: [&'a [u8; 32]; 2],
    golden: usize,
) -> Result<Header<'a>> {
    let rules = safety.rules();
    let [contract_sha256, model_sha256] = digests;
    let mut layers = heapless::Vec::new();
    for part in &network.parts {
        let layer = part.layer()?;
        layers.push(layer).map_err(|_| too_many("layers", MAX_LAYERS, network.parts.len()))?;
    }
    let bounded = contract.observation.iter().any(|channel| channel.low.is_some() || channel.high.is_some());
    Ok(Header {
        task: Text(contract.task.as_bytes()),
        observation: short("observation channels", contract.observation.len())?,
        action: short("action channels", contract.action.len())?,
        control_period_nanos: nanos_from_secs(contract.control_period_secs),
        max_age_nanos: rules.guard.max_age_nanos,
        fallback: rules.guard.fallback,
        entry_ticks: rules.entry_ticks,
        exit_ticks: rules.exit_ticks,
        deadline_nanos: rules.deadline_nanos,
        max_faults: rules.max_faults,
        contract_sha256,
        model_sha256,
        precision,
        normalized: network.normalizer.is_some(),
        ranges: bounded,
        fixed: !contract.guards.fixed_action.is_empty(),
        dampers: !contract.guards.dampers.is_empty(),
        max_change: !contract.guards.max_rate_per_sec.is_empty(),
        squash: if network.squash == Squash::Tanh { Activation::Tanh } else { Activation::Identity },
        layers,
        golden: short("golden vectors", golden)?,
    })
}

/// sha256 of the contract as JSON.
///
/// # Errors
/// As [`Contract::to_json`].
pub fn contract_digest(contract: &Contract) -> Result<[u8; 32]> {
    Ok(Sha256::digest(contract.to_json()?).into())
}

fn short(what: &str, count: usize) -> Result<u16> {
    u16::try_from(count).map_err(|_| too_many(what, u16::MAX.into(), count))
}

fn too_many(what: &str, most: usize, found: usize) -> Error {
    Error::malformed(format!("a blob's {what}"), format!("at most {most}"), found)
}

fn file(header: &Header<'_>, contract: &Contract, data: &[u32]) -> Result<BlobFile> {
    let encode = |error: postcard::Error| Error::malformed("the blob's header", "one that can be encoded", error);
    let mut text = to_postcard(header).map_err(encode)?;
    let header_bytes = text.len();
    for channel in contract.observation.iter().chain(&contract.action) {
        text.extend(to_postcard(&(&channel.name, &channel.unit)).map_err(encode)?);
    }
    let channel_bytes = text.len() - header_bytes;
    text.resize((PREFIX_BYTES + text.len()).next_multiple_of(ALIGNMENT) - PREFIX_BYTES, 0);
    let data: Vec<u8> = data.iter().flat_map(|word| word.to_le_bytes()).collect();

    let mut bytes = MAGIC.to_vec();
    let size = |count: usize| u32::try_from(count).map_err(|_| too_many("bytes", u32::MAX as usize, count));
    for word in [
        u32::from(VERSION),
        size(header_bytes)?,
        size(channel_bytes)?,
        size(PREFIX_BYTES + text.len())?,
        size(data.len())?,
        crc32(&text),
        crc32(&data),
    ] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.resize(PREFIX_BYTES - 4, 0);
    bytes.extend(crc32(&bytes).to_le_bytes());
    bytes.extend(text);
    bytes.extend(data);
    Ok(BlobFile::new(&bytes))
}

fn to_postcard<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut buffer = vec![0; 64 << 10];
    let length = postcard::to_slice(value, &mut buffer)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

impl Part {
    fn layer(&self) -> Result<Layer> {
        Ok(match self {
            Part::Dense(dense) => Layer::Dense {
                inputs: short("inputs of a layer", dense.inputs)?,
                outputs: short("outputs of a layer", dense.outputs)?,
                activation: dense.activation,
            },
            Part::Lstm(it) => Layer::Lstm { inputs: short("inputs", it.inputs)?, hidden: short("states", it.hidden)? },
            Part::Gru(it) => Layer::Gru { inputs: short("inputs", it.inputs)?, hidden: short("states", it.hidden)? },
        })
    }
}

/// The data section, row by row.
#[derive(Default)]
struct Writer(Vec<u32>);

impl Writer {
    fn words(&mut self, row: &[u32]) {
        self.0.extend(row);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT / 4), 0);
    }

    fn numbers(&mut self, row: &[f32]) {
        self.words(bytemuck::cast_slice(row));
    }

    fn part(&mut self, part: &Part, precision: Precision) -> Result<()> {
        match part {
            Part::Dense(Dense { inputs, outputs, weights, bias, .. }) => {
                check("dense weights", weights, inputs * outputs)?;
                check("dense bias", bias, *outputs)?;
                self.matrix(precision, *inputs, *outputs, |i, j| weights[i * outputs + j], bias);
            }
            Part::Lstm(it) => {
                it.check(4)?;
                let (inputs, hidden) = (it.inputs, it.hidden);
                let weight = |i: usize, j: usize| match i.checked_sub(inputs) {
                    None => it.weight_ih[j * inputs + i],
                    Some(i) => it.weight_hh[j * hidden + i],
                };
                let bias: Vec<f32> = it.bias_ih.iter().zip(&it.bias_hh).map(|(a, b)| a + b).collect();
                self.matrix(precision, inputs + hidden, 4 * hidden, weight, &bias);
            }
            Part::Gru(it) => {
                it.check(3)?;
                let (inputs, hidden) = (it.inputs, it.hidden);
                self.matrix(precision, inputs, 3 * hidden, |i, j| it.weight_ih[j * inputs + i], &it.bias_ih);
                self.matrix(precision, hidden, 3 * hidden, |i, j| it.weight_hh[j * hidden + i], &it.bias_hh);
            }
        }
        Ok(())
    }

    fn matrix(
        &mut self,
        precision: Precision,
        inputs: usize,
        outputs: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: &[f32],
    ) {
        match precision {
            Precision::F32 => {
                let mut packed = Vec::with_capacity(inputs * outputs);
                let mut first = 0;
                for block in kernel::BLOCKS {
                    while outputs - first >= block {
                        let row = |i: usize| (first..first + block).map(move |j| (i, j));
                        packed.extend((0..inputs).flat_map(row).map(|(i, j)| weight(i, j)));
                        first += block;
                    }
                }
                self.numbers(&packed);
            }
            Precision::Int8 => {
                let mut words = Vec::with_capacity(int8::words(inputs) * outputs);
                let mut scales = Vec::with_capacity(outputs);
                for j in 0..outputs {
                    let peak = (0..inputs).fold(0.0_f32, |peak, i| peak.max(weight(i, j).abs()));
                    let factor = if peak < 1e-36 { 0.0 } else { int8::MOST / peak };
                    let quantized = |i: usize| if i < inputs { libm::rintf(weight(i, j) * factor) as i8 } else { 0 };
                    words.extend(
                        (0..int8::words(inputs)).map(|group| {
                            u32::from_le_bytes([0, 1, 2, 3].map(|lane| quantized(4 * group + lane) as u8))
                        }),
                    );
                    scales.push(peak / int8::MOST);
                }
                self.words(&words);
                self.numbers(&scales);
            }
        }
        self.numbers(bias);
    }
}

impl Recurrent {
    fn check(&self, gates: usize) -> Result<()> {
        let outputs = gates * self.hidden;
        check("recurrent weight_ih", &self.weight_ih, outputs * self.inputs)?;
        check("recurrent weight_hh", &self.weight_hh, outputs * self.hidden)?;
        check("recurrent bias_ih", &self.bias_ih, outputs)?;
        check("recurrent bias_hh", &self.bias_hh, outputs)
    }
}

fn check(what: &str, row: &[f32], length: usize) -> Result<()> {
    if row.len() == length {
        return Ok(());
    }
    Err(Error::malformed(what, format!("{length} numbers"), row.len()))
}
