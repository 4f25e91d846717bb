//! Keys in the `metadata_props` of the ONNX files that this product writes.

/// Version of these keys and of the graph's layout: [`FORMAT_VERSION`] as a decimal number.
pub const KEY_FORMAT_VERSION: &str = "hype.format_version";
/// What the file holds: [`KIND_POLICY`] or [`KIND_DISCRIMINATOR`].
pub const KEY_KIND: &str = "hype.kind";
/// The [`Contract`](crate::Contract) as JSON.
pub const KEY_CONTRACT: &str = "hype.contract";

/// The version that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;
/// Value of [`KEY_KIND`] in `policy.onnx`.
pub const KIND_POLICY: &str = "policy";
/// Value of [`KEY_KIND`] in `discriminator.onnx`.
pub const KIND_DISCRIMINATOR: &str = "discriminator";

/// Input of a policy, first input of a discriminator: raw observation, f32 `[batch, observation]`.
pub const OBSERVATION: &str = "observation";
/// Output of a policy, second input of a discriminator: environment units, f32 `[batch, action]`.
pub const ACTION: &str = "action";
/// Output of a discriminator, f32 `[batch, 1]`.
pub const REWARD: &str = "reward";
