//! The operations a backend runs perceptrons with, and how autodiff sees them.
//!
//! The default bodies are ordinary Burn tensor code, so a backend without kernels of its own (CUDA) implements the trait
//! with an empty body. [`Autodiff`] gets one implementation that records each operation with its explicit backward pass.

use super::mlp::{MlpSpec, primitive, tensor};
use super::reference;
use burn::backend::autodiff::{
    Autodiff,
    checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
    grads::Gradients,
    ops::{Backward, Ops, OpsKind},
};
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

/// Keeps the logarithm of `1 - tanh²` finite (Stable-Baselines3 0.8.0, `SquashedDiagGaussianDistribution`).
pub const SQUASH_EPSILON: f64 = 1e-6;

/// Bounds of the log standard deviation (Stable-Baselines3 0.8.0, `LOG_STD_MIN` and `LOG_STD_MAX`).
pub const LOG_STD_BOUNDS: (f64, f64) = (-20.0, 2.0);

/// Soft bounds of a model's log variance (facebookresearch/mbrl-lib, as jren03/garage configures it).
pub const LOG_VARIANCE_BOUNDS: (f64, f64) = (-10.0, 0.5);

/// A float tensor as the backend holds it.
pub type Float<B> = burn::tensor::ops::FloatTensor<B>;

/// One step of Adam, or of Optimistic Adam, on a flat parameter vector, and what else is done in the same pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Count of this step, from 1.
    pub time: u32,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// L2 penalty added to the gradient (not decoupled).
    pub weight_decay: f64,
    /// Extrapolate with the previous direction first: spec/algorithms 1.4, georgepar/optimistic-adam.
    pub optimistic: bool,
    /// Rate at which a target vector follows (`target = (1-rate)·target + rate·params`).
    pub polyak_rate: f64,
}

impl AdamStep {
    /// Bias-corrected learning rate. The optimistic form corrects both moments here, plain Adam the first alone.
    pub fn rate(&self) -> f64 {
        let first = 1.0 - self.beta1.powi(self.time as i32);
        let second = 1.0 - self.beta2.powi(self.time as i32);
        if self.optimistic { self.learning_rate * second.sqrt() / first } else { self.learning_rate / first }
    }

    /// Factor of the second moment's root: plain Adam corrects its bias before epsilon is added (as PyTorch does).
    pub fn root_scale(&self) -> f64 {
        if self.optimistic { 1.0 } else { 1.0 / (1.0 - self.beta2.powi(self.time as i32)).sqrt() }
    }
}

/// What [`MlpBackend::adam`] gives back.
#[derive(Debug)]
pub struct AdamResult<B: Backend> {
    /// Parameters after the step.
    pub params: Float<B>,
    /// First moment.
    pub first: Float<B>,
    /// Second moment.
    pub second: Float<B>,
    /// The following vector, if one was given.
    pub target: Option<Float<B>>,
}

/// Perceptron operations. Shapes as in [`super::mlp`]; `hidden` are the values after each activation, followed, where that is
/// not ReLU, by the slopes of each activation.
pub trait MlpBackend: Backend {
    /// Gradient steps whose rows and noise are sent to the device together, at most: a device with a memory of its own is
    /// not waited for within such a block.
    const STEPS_PER_TRANSFER: usize = 64;

    /// Output.
    fn mlp(spec: &MlpSpec, x: Float<Self>, params: Float<Self>) -> Float<Self> {
        Self::mlp_forward(spec, x, params).0
    }

    /// Output, and what the backward pass needs.
    fn mlp_forward(spec: &MlpSpec, x: Float<Self>, params: Float<Self>) -> (Float<Self>, Vec<Float<Self>>) {
        reference::forward::<Self>(spec, x, params)
    }

    /// Gradients of the input and the parameters from `gy`, the gradient of the output; each only where needed.
    fn mlp_backward(
        spec: &MlpSpec,
        x: Float<Self>,
        params: Float<Self>,
        hidden: Vec<Float<Self>>,
        gy: Float<Self>,
        need: Need,
    ) -> (Option<Float<Self>>, Option<Float<Self>>) {
        reference::backward::<Self>(spec, x, params, hidden, gy, need)
    }

    /// Gradient of the scalar output with respect to the input; also the hidden activations and the signals after
    /// each mask, from the first hidden layer to the last.
    fn input_gradient(
        spec: &MlpSpec,
        x: Float<Self>,
        params: Float<Self>,
    ) -> (Float<Self>, Vec<Float<Self>>, Vec<Float<Self>>) {
        reference::input_gradient::<Self>(spec, x, params)
    }

    /// Parameter gradient of [`MlpBackend::input_gradient`] from `gg`, the gradient of its result.
    fn input_gradient_backward(
        spec: &MlpSpec,
        params: Float<Self>,
        hidden: Vec<Float<Self>>,
        signals: Vec<Float<Self>>,
        gg: Float<Self>,
    ) -> Float<Self> {
        reference::input_gradient_backward::<Self>(spec, params, hidden, signals, gg)
    }

    /// Squashed Gaussian: `[.., batch, actions + 1]`, the actions `tanh(mean + std·noise)` and their log-probability.
    /// Rows of `head`: means, then log standard deviations.
    fn squash(head: Float<Self>, noise: Float<Self>) -> Float<Self> {
        reference::squash::<Self>(head, noise)
    }

    /// Gradient of the head from `g`, the gradient of [`MlpBackend::squash`]'s result.
    fn squash_backward(head: Float<Self>, noise: Float<Self>, g: Float<Self>) -> Float<Self> {
        reference::squash_backward::<Self>(head, noise, g)
    }

    /// Gaussian negative log-likelihood of each member, and the gradient of the head that gives it: `(mean - target)² e^-l + l`,
    /// averaged over batch and outputs, with log variances l bounded by [`LOG_VARIANCE_BOUNDS`].
    /// Rows of `head`: means, then raw log variances. Losses are `[members, 1, 1]`.
    fn gaussian_loss(head: Float<Self>, target: Float<Self>) -> (Float<Self>, Float<Self>) {
        reference::gaussian_loss::<Self>(head, target)
    }

    /// Adam or Optimistic Adam, in place where the storage is not shared.
    fn adam(
        step: &AdamStep,
        params: Float<Self>,
        gradient: Float<Self>,
        first: Float<Self>,
        second: Float<Self>,
        target: Option<Float<Self>>,
    ) -> AdamResult<Self> {
        reference::adam::<Self>(step, params, gradient, first, second, target)
    }
}

/// [`MlpBackend::squash`] on tensors; shapes as there.
pub fn squash<B: MlpBackend>(head: Tensor<B, 3>, noise: Tensor<B, 3>) -> Tensor<B, 3> {
    tensor(B::squash(primitive(head), primitive(noise)))
}

/// [`MlpBackend::gaussian_loss`] on tensors, differentiable in the head: `[members]` losses of `head` `[members, batch, 2·outputs]`
/// and `target` `[members, batch, outputs]`.
pub fn gaussian_loss<B: MlpBackend>(head: Tensor<B, 3>, target: Tensor<B, 3>) -> Tensor<B, 1> {
    let members = head.dims()[0];
    let (loss, _) = B::gaussian_loss(primitive(head), primitive(target));
    tensor::<B, 3>(loss).reshape([members])
}

/// Which gradients a backward pass must produce.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The input's.
    pub input: bool,
    /// The parameters'.
    pub params: bool,
}

#[cfg(feature = "cuda")]
impl MlpBackend for burn::backend::Cuda {}

impl<B: MlpBackend, C: CheckpointStrategy> MlpBackend for Autodiff<B, C> {
    const STEPS_PER_TRANSFER: usize = B::STEPS_PER_TRANSFER;

    fn gaussian_loss(head: Float<Self>, target: Float<Self>) -> (Float<Self>, Float<Self>) {
        #[derive(Debug)]
        struct GaussianLoss;

        impl<B: MlpBackend> Backward<B, 1> for GaussianLoss {
            type State = Float<B>;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g: Tensor<B, 3> = tensor(grads.consume::<B>(&ops.node));
                if let [Some(node)] = ops.parents {
                    grads.register::<B>(node.id, primitive(tensor::<B, 3>(ops.state) * g));
                }
            }
        }

        let (loss, gradient) = B::gaussian_loss(head.primitive, target.primitive);
        let loss = match GaussianLoss.prepare::<C>([head.node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(gradient.clone(), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, <Self as AutodiffBackend>::from_inner(gradient))
    }

    fn squash(head: Float<Self>, noise: Float<Self>) -> Float<Self> {
        #[derive(Debug)]
        struct Squash;

        impl<B: MlpBackend> Backward<B, 1> for Squash {
            type State = (Float<B>, Float<B>);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let g = grads.consume::<B>(&ops.node);
                let (head, noise) = ops.state;
                if let [Some(node)] = ops.parents {
                    grads.register::<B>(node.id, B::squash_backward(head, noise, g));
                }
            }
        }

        let node = head.node.clone();
        let y = B::squash(head.primitive.clone(), noise.primitive.clone());
        match Squash.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((head.primitive, noise.primitive), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn mlp_forward(spec: &MlpSpec, x: Float<Self>, params: Float<Self>) -> (Float<Self>, Vec<Float<Self>>) {
        #[derive(Debug)]
        struct Mlp;

        impl<B: MlpBackend> Backward<B, 2> for Mlp {
            type State = (MlpSpec, Float<B>, Float<B>, Vec<Float<B>>);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gy = grads.consume::<B>(&ops.node);
                let (spec, x, params, hidden) = ops.state;
                let [node_x, node_params] = ops.parents;
                let need = Need { input: node_x.is_some(), params: node_params.is_some() };
                let (gx, gp) = B::mlp_backward(&spec, x, params, hidden, gy, need);
                for (node, gradient) in [(node_x, gx), (node_params, gp)] {
                    if let (Some(node), Some(gradient)) = (node, gradient) {
                        grads.register::<B>(node.id, gradient);
                    }
                }
            }
        }

        let nodes = [x.node.clone(), params.node.clone()];
        let (y, hidden) = B::mlp_forward(spec, x.primitive.clone(), params.primitive.clone());
        if spec.outputs() == 1 && !params.is_tracked() {
            return (scalar_of_input::<B, C>(spec, x, params.primitive, hidden, y), Vec::new());
        }
        let y = match Mlp.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((spec.clone(), x.primitive, params.primitive, hidden), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        (y, Vec::new())
    }

    fn input_gradient(
        spec: &MlpSpec,
        x: Float<Self>,
        params: Float<Self>,
    ) -> (Float<Self>, Vec<Float<Self>>, Vec<Float<Self>>) {
        #[derive(Debug)]
        struct InputGradient;

        impl<B: MlpBackend> Backward<B, 1> for InputGradient {
            type State = (MlpSpec, Float<B>, Vec<Float<B>>, Vec<Float<B>>);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gg = grads.consume::<B>(&ops.node);
                let (spec, params, hidden, signals) = ops.state;
                if let [Some(node)] = ops.parents {
                    let gp = B::input_gradient_backward(&spec, params, hidden, signals, gg);
                    grads.register::<B>(node.id, gp);
                }
            }
        }

        let (g, hidden, signals) = B::input_gradient(spec, x.primitive, params.primitive.clone());
        let g = match InputGradient.prepare::<C>([params.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((spec.clone(), params.primitive, hidden, signals), g),
            OpsKind::UnTracked(prep) => prep.finish(g),
        };
        (g, Vec::new(), Vec::new())
    }
}

/// Links the scalar output `y` of a perceptron with constant parameters to its input by the Jacobian, computed at once.
///
/// Left to the backward pass, that work would be done within Burn's tape, and threads that have finished their own pass would
/// wait for it (see [`super::optimizer::Applied`]).
fn scalar_of_input<B: MlpBackend, C: CheckpointStrategy>(
    spec: &MlpSpec,
    x: Float<Autodiff<B, C>>,
    params: Float<B>,
    hidden: Vec<Float<B>>,
    y: Float<B>,
) -> Float<Autodiff<B, C>> {
    #[derive(Debug)]
    struct ScalarOfInput;

    impl<B: MlpBackend> Backward<B, 1> for ScalarOfInput {
        type State = (Option<Float<B>>, usize);

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let gy = tensor::<B, 3>(grads.consume::<B>(&ops.node));
            if let ([Some(node)], (Some(jacobian), groups)) = (ops.parents, ops.state) {
                let by_member = tensor::<B, 3>(jacobian) * gy;
                let [members, batch, inputs] = by_member.dims();
                let by_group = by_member.reshape([groups, members / groups, batch * inputs]).sum_dim(1);
                grads.register::<B>(node.id, primitive(by_group.reshape([groups, batch, inputs])));
            }
        }
    }

    let prepared = match ScalarOfInput.prepare::<C>([x.node.clone()]).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared,
        OpsKind::UnTracked(prepared) => return prepared.finish(y),
    };
    let rows = tensor::<B, 3>(x.primitive);
    let [groups, batch, _] = rows.dims();
    let ones = Tensor::<B, 3>::ones([spec.members, batch, 1], &rows.device());
    let (rows, need) = (primitive(reference::spread(spec, rows)), Need { input: true, params: false });
    let (jacobian, _) = B::mlp_backward(spec, rows, params, hidden, primitive(ones), need);
    prepared.finish((jacobian, groups), y)
}
