fn main() {
    let a: Vec<String> = std::env::args().collect();
    let networks: trainer::methods::Networks = serde_json::from_slice(&std::fs::read(&a[1]).unwrap()).unwrap();
    let task = trainer::envs::task(&a[2]).unwrap();
    let contract = trainer::to_policy::contract(&task);
    let graph = trainer::to_policy::policy_graph(&networks, &contract).unwrap();
    std::fs::write(&a[3], export::onnx_policy(&graph, &contract).unwrap()).unwrap();
}
