//! Networks: multi-layer perceptrons whose parameters are one flat vector, and the operations on them.
//!
//! Every network carries a leading `members` axis (twin critics, ensembles, stacked seeds): inputs are
//! `[members / k, batch, inputs]`, each shared by k members in a row, outputs `[members, batch, outputs]`. The whole perceptron is one operation with its own
//! backward pass ([`ops::MlpBackend`]); its default body is ordinary Burn tensor code ([`reference`]), which serves
//! CUDA and is the oracle of the fused CPU kernels ([`flex`]).

#[cfg(target_arch = "x86_64")]
mod avx512;
mod elementary;
pub mod flex;
pub mod init;
mod kernels;
mod memory;
pub mod mlp;
pub mod ops;
pub mod optimizer;
mod product;
pub mod reference;
pub mod stack;
pub mod tanh;
#[cfg(test)]
mod tests;

use burn::tensor::backend::AutodiffBackend;

/// Where a network is trained on the CPU.
pub type Cpu = burn::backend::Autodiff<burn::backend::Flex>;

/// Where networks are trained on an NVIDIA GPU.
#[cfg(feature = "cuda")]
pub type Gpu = burn::backend::Autodiff<burn::backend::Cuda>;

/// What a learner asks of its backend: Burn autodiff over a backend that knows the perceptron operations.
pub trait Train: AutodiffBackend<InnerBackend: ops::MlpBackend> + ops::MlpBackend {}

impl<B: AutodiffBackend<InnerBackend: ops::MlpBackend> + ops::MlpBackend> Train for B {}

/// The backend without autodiff under `B`.
pub type Inner<B> = <B as AutodiffBackend>::InnerBackend;
