use std::io::Write;
use trainer::config::*;
use trainer::methods::{Method, expert::Expert};
use trainer::nn::Cpu;
use trainer::run::rng::Streams;
#[global_allocator]
static A: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let task = std::env::args().nth(1).unwrap();
    let seed: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let steps: u64 = std::env::args().nth(3).unwrap().parse().unwrap();
    let dir = std::env::args().nth(4).unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    let hopper = task != "pendulum";
    let config = RunConfig {
        method: "expert".into(),
        task: task.clone(),
        preset: "fixed".into(),
        env_steps: steps,
        seeds: vec![seed],
        demos: None,
        demos_limit: None,
        env: EnvConfig { tremble: 0.0 },
        eval: EvalConfig { every: 10_000, episodes: 5 },
        sac: SacConfig {
            hidden: vec![256, 256],
            discount: 0.99,
            polyak_rate: 0.005,
            batch_size: 256,
            replay_capacity: 1_000_000,
            train_every: 1,
            grad_steps: 1,
            exploration_steps: if hopper { 10_000 } else { 1000 },
            learning_rate: if hopper { 3e-4 } else { 1e-3 },
            learning_rate_schedule: RateSchedule::Constant,
            initial_temperature: 1.0,
            learn_temperature: true,
            target_entropy: None,
            optimizer: Optimizer::Adam,
            timeouts_are_terminal: false,
            restarts_each_iteration: false,
        },
        reward: None,
        hybrid: HybridConfig { schedule: vec![] },
        reset: ResetConfig { probability: 0.0 },
    };
    let every = if hopper { 10_000 } else { 1000 };
    let mut m = Expert::<Cpu>::new(&config, seed, &Default::default()).unwrap();
    let mut best = f64::MIN;
    let mut due = every;
    let mut log = std::fs::File::create(format!("{dir}/log.txt")).unwrap();
    let t = std::time::Instant::now();
    loop {
        let r = m.advance().unwrap();
        if r.env_steps >= due || r.env_steps >= steps {
            let (eps, _) = trainer::eval::play(
                &task,
                &config.env,
                Streams::new(seed),
                &format!("eval/{due}"),
                5,
                |o| Ok(m.act(o)),
            )
            .unwrap();
            let mean = trainer::eval::mean_return(&eps);
            writeln!(
                log,
                "{} {:.1} {:.0}s {:?} {:?}",
                r.env_steps,
                mean,
                t.elapsed().as_secs_f64(),
                eps.iter().map(|e| e.length).collect::<Vec<_>>(),
                r.sac
            )
            .unwrap();
            if mean > best {
                best = mean;
                let bytes = serde_json::to_vec(&m.networks()).unwrap();
                std::fs::write(format!("{dir}/best.json.tmp"), bytes).unwrap();
                std::fs::rename(format!("{dir}/best.json.tmp"), format!("{dir}/best.json")).unwrap();
                writeln!(log, "best {best:.1} at {}", r.env_steps).unwrap();
            }
            due += every;
            let mut f = std::io::BufWriter::new(std::fs::File::create(format!("{dir}/last.tmp")).unwrap());
            m.save(&mut f).unwrap();
            drop(f);
            std::fs::rename(format!("{dir}/last.tmp"), format!("{dir}/last")).unwrap();
        }
        if r.env_steps >= steps {
            break;
        }
    }
}
