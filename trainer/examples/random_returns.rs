//! Measures the random return of every task, as the tables in `envs/` quote it:
//!
//!     cargo run -p hype-trainer --example random_returns

use trainer::envs::{RANDOM_RETURN_EPISODES, random_return, task_ids};

fn main() -> Result<(), trainer::error::Error> {
    for id in task_ids() {
        println!("{id} {:?}", random_return(id, RANDOM_RETURN_EPISODES, 0)?);
    }
    Ok(())
}
