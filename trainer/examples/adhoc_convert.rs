use trainer::methods::Method;
use trainer::run::driver::{DriverState, Snapshot};
fn main() {
    let last = std::env::args().nth(1).unwrap();
    let run = std::path::PathBuf::from(std::env::args().nth(2).unwrap());
    let config: trainer::config::RunConfig =
        toml::from_str(&std::fs::read_to_string(run.join("config.toml")).unwrap()).unwrap();
    let mut m =
        trainer::methods::expert::Expert::<trainer::nn::Cpu>::new(&config, config.seeds[0], &Default::default())
            .unwrap();
    m.restore(postcard::from_bytes(&std::fs::read(last).unwrap()).unwrap()).unwrap();
    let c = m.counts();
    let driver = DriverState { evaluated_at: Some(c.env_steps()), measured_at: c.env_steps(), ..Default::default() };
    let s = Snapshot { driver, env_steps: c.env_steps(), env_steps_total: c.env_steps_total(), networks: m.networks() };
    let p = trainer::run::directory::checkpoint_path(&run, trainer::run::Slot::Last, config.seeds[0]);
    std::fs::create_dir_all(p.parent().unwrap()).unwrap();
    trainer::run::checkpoint::save(&p, &(s, m.record())).unwrap();
    println!("{:?}", c);
}
