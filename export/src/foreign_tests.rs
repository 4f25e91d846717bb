//! ONNX graphs as other exporters write them: what is lowered, what goes to tract, and what is refused.

use onnx_protobuf::{GraphProto, ModelProto, OperatorSetIdProto};
use policy_runtime::spec::{Activation, Squash};
use policy_runtime::{EngineChoice, Observation, Policy};
use protobuf::{Message, MessageField};

use crate::graph::GraphWriter;

fn model(graph: GraphProto) -> Vec<u8> {
    let opset = OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: MessageField::some(graph),
        ..ModelProto::default()
    };
    model.write_to_bytes().unwrap()
}

fn step(policy: &mut Policy, values: &[f32]) -> Vec<f32> {
    let mut action = vec![f32::NAN; policy.action_width()];
    assert!(policy.step(0, &Observation { values, stamp_nanos: 0 }, &mut action).is_good());
    action
}

/// MatMul and Add, a Gemm with turned weights, a scalar Clip and no metadata.
#[test]
fn an_actor_without_metadata_is_lowered() {
    let mut graph = GraphWriter::new("main_graph");
    let input = graph.input("obs", 2);
    let weights = graph.constant("w0", &[2, 3], &[1.0, 0.0, 2.0, -1.0, 0.5, 0.0]);
    let product = graph.node("MatMul", &[&input, &weights], "mm");
    let sum = graph.with_row("Add", &product, &[0.0, 1.0, 0.0], "sum");
    let hidden = graph.node("Elu", &[&sum], "elu");
    let turned = graph.constant("w1", &[1, 3], &[1.0, 2.0, -1.0]);
    let bias = graph.constant("b1", &[1], &[0.25]);
    let head = graph.node_with("Gemm", &[&hidden, &turned, &bias], "head", vec![("transB", 1)]);
    let (low, high) = (graph.constant("low", &[], &[-1.0]), graph.constant("high", &[], &[1.5]));
    graph.node("Clip", &[&head, &low, &high], "actions");
    graph.output("actions", 1);
    let bytes = model(graph.finish());

    let mut native = Policy::from_onnx(&bytes, EngineChoice::Auto).unwrap();
    assert_eq!((native.engine_name(), native.why_not_native()), ("native", None));
    assert!(native.contract().is_none());
    let layers = &native.graph().unwrap().mlp.layers;
    assert_eq!((layers.len(), layers[0].activation), (2, Activation::Elu));
    assert_eq!(
        (layers[0].bias.as_slice(), layers[1].weights.as_slice()),
        (&[0.0, 1.0, 0.0][..], &[1.0, 2.0, -1.0][..])
    );
    assert_eq!(native.graph().unwrap().squash, Squash::None);

    let mut tract = Policy::from_onnx(&bytes, EngineChoice::Tract).unwrap();
    // Hidden of (2, 3) is elu(-1, 2.5, 4).
    for (observation, wanted) in
        [([1.0, 0.0], 1.25), ([2.0, 3.0], (-1.0_f32).exp_m1() + 1.25), ([0.5, 0.0], 1.5), ([5.0, 0.0], -1.0)]
    {
        for policy in [&mut native, &mut tract] {
            let action = step(policy, &observation);
            assert!((action[0] - wanted).abs() < 1e-5, "{observation:?}: {action:?} {wanted}");
        }
    }
}

#[test]
fn an_unknown_operator_goes_to_tract_with_a_reason() {
    let mut graph = GraphWriter::new("main_graph");
    let input = graph.input("obs", 2);
    let weights = graph.constant("w0", &[2, 1], &[1.0, -1.0]);
    let product = graph.node("MatMul", &[&input, &weights], "mm");
    graph.node("Ceil", &[&product], "actions");
    graph.output("actions", 1);
    let bytes = model(graph.finish());

    let mut policy = Policy::from_onnx(&bytes, EngineChoice::Auto).unwrap();
    assert_eq!(policy.engine_name(), "tract");
    assert_eq!(policy.why_not_native(), Some("the native engine does not know Ceil"));
    assert_eq!(step(&mut policy, &[1.25, 0.0]), [2.0]);
    let error = Policy::from_onnx(&bytes, EngineChoice::Native).unwrap_err();
    assert!(error.to_string().contains("Ceil") && error.to_string().contains("--engine tract"), "{error}");
}

#[test]
fn unsound_graphs_are_refused_by_name() {
    let refused = |build: fn(&mut GraphWriter), wanted: &str| {
        let mut graph = GraphWriter::new("main_graph");
        graph.input("obs", 2);
        build(&mut graph);
        let error = Policy::from_onnx(&model(graph.finish()), EngineChoice::Auto).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error} does not mention {wanted}");
    };
    refused(|graph| graph.output("actions", 1), "\"actions\"");
    refused(
        |graph| {
            graph.node("Relu", &["later"], "actions");
            graph.node("Relu", &["obs"], "later");
            graph.output("actions", 2);
        },
        "\"later\"",
    );
    refused(
        |graph| {
            graph.constant("w", &[2, 3], &[0.0; 5]);
            graph.node("MatMul", &["obs", "w"], "actions");
            graph.output("actions", 3);
        },
        "6 values for shape [2, 3]",
    );
    refused(
        |graph| {
            graph.constant("w", &[3, 1], &[0.0; 3]);
            graph.node("MatMul", &["obs", "w"], "actions");
            graph.output("actions", 1);
        },
        "tract",
    );
    refused(
        |graph| {
            graph.constant("w", &[2, 1], &[0.5, f32::NAN]);
            graph.node("MatMul", &["obs", "w"], "actions");
            graph.output("actions", 1);
        },
        "tensor \"w\"; expected finite weights; found NaN or an infinity at index 1",
    );
}
