//! CPU milliseconds of a SAC step, replay sampling included: `sac_step OBSERVATIONS ACTIONS HIDDEN BATCH STEPS`, median and best of
//! blocks of five steps. Called by `benches/python/peers.py`.

use trainer::config::{Optimizer, RateSchedule, SacConfig};
use trainer::error::{Error, Result};
use trainer::learners::block::Block;
use trainer::learners::sac::Sac;
use trainer::nn::Cpu;
use trainer::replay::{ReplayBuffer, Rows, Transition};
use trainer::reward::Reward;
use trainer::run::rng::Streams;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Steps between two looks at the clock.
const BLOCK: usize = 5;

fn cpu_millis() -> Result<f64> {
    let path = std::path::Path::new("/proc/thread-self/schedstat");
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let nanos: u64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
    Ok(nanos as f64 * 1e-6)
}

fn main() -> Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [observations, actions, hidden, batch, steps] = numbers.as_slice() else {
        return Err(Error::config("usage: sac_step OBSERVATIONS ACTIONS HIDDEN BATCH STEPS"));
    };
    let (observations, actions, batch) = (*observations, *actions, *batch);
    let config = SacConfig {
        hidden: vec![*hidden; 2],
        actor_hidden: None,
        discount: 0.99,
        polyak_rate: 0.005,
        target_every: 1,
        batch_size: batch,
        replay_capacity: 1_000_000,
        train_every: 1,
        grad_steps: 1,
        exploration_steps: 0,
        learning_rate: 3e-4,
        learning_rate_schedule: RateSchedule::Constant,
        initial_temperature: 1.0,
        learn_temperature: true,
        target_entropy: None,
        optimizer: Optimizer::Adam,
        gsde: false,
        timeouts_are_terminal: false,
        restarts_each_iteration: false,
    };
    let streams = Streams::new(0);
    let (mut rng, device) = (streams.stream("bench"), Default::default());
    let mut buffer = ReplayBuffer::new(100_000, observations, actions);
    let mut row = vec![0.0; 2 * observations + actions];
    for _ in 0..100_000 {
        rng.fill_normal(&mut row);
        buffer.push(Transition {
            observation: &row[..observations],
            action_unit: &row[2 * observations..],
            task_reward: 0.5,
            next_observation: &row[observations..2 * observations],
            terminated: false,
        });
    }
    let mut sac = Sac::<Cpu>::new(&config, observations, actions, &[streams], &device);
    let mut step = || {
        let mut rows = Rows::default();
        buffer.sample_into(batch, &mut rng, &mut rows);
        let block = Block::new(vec![rows], vec![batch], &device);
        sac.update(&Reward::<Cpu>::Task.label(block.batch(0)), config.learning_rate, false);
    };
    (0..4 * BLOCK).for_each(|_| step());
    let mut millis = Vec::new();
    for _ in 0..steps.div_ceil(BLOCK) {
        let begin = cpu_millis()?;
        (0..BLOCK).for_each(|_| step());
        millis.push((cpu_millis()? - begin) / BLOCK as f64);
    }
    millis.sort_by(f64::total_cmp);
    println!("{{\"median\": {:.3}, \"best\": {:.3}}}", millis[millis.len() / 2], millis[0]);
    Ok(())
}
