//! A run as people watch it, on stderr: one bar per seed on a terminal, plain lines otherwise.

use super::pace::Pace;
use super::text::{duration, grouped, short};
use super::{Event, Observer, Scale, progress_line};
use crate::eval::{Episode, mean_return};
use crate::world_model::model::FitProgress;
use crate::world_model::rollout::Imagination;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two plain lines of a seed.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Shows the numbers that matter: both step counts, return as a share of the expert's, discriminator gap, gradient
/// steps per second, time left.
#[derive(Debug)]
pub struct Terminal {
    bars: Option<MultiProgress>,
    scale: Scale,
    seeds: Mutex<BTreeMap<u64, Seed>>,
}

/// What is known of one seed.
#[derive(Debug, Default)]
struct Seed {
    bar: Option<ProgressBar>,
    pace: Pace,
    last_line: Option<Instant>,
    budget: u64,
    env_steps: u64,
    env_steps_total: u64,
    mean_return: Option<f64>,
    gap: Option<f64>,
    model_error: Option<f64>,
    imagination: Option<Imagination>,
}

impl Terminal {
    /// Bars when stderr is a terminal that can show them. `scale` turns returns into shares of the expert's.
    pub fn new(scale: Scale) -> Self {
        let able = std::io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        Self { bars: able.then(MultiProgress::new), scale, seeds: Mutex::default() }
    }

    fn print(&self, line: &str) {
        match &self.bars {
            // A terminal that went away is no reason to stop a run.
            Some(bars) => drop(bars.println(line)),
            None => progress_line(line),
        }
    }

    fn bar(&self, seed: u64, budget: u64) -> Option<ProgressBar> {
        let bar = self.bars.as_ref()?.add(ProgressBar::new(budget));
        let style = ProgressStyle::with_template("{prefix} {bar:16} {percent:>3}% {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("█▉▊▋▌▍▎▏ "));
        bar.set_prefix(format!("seed {seed}"));
        Some(bar)
    }

    /// In the seed's bar, or as a line of its own where the last one is old enough.
    fn show(&self, number: u64, seed: &mut Seed, now: Instant, text: String) {
        match &seed.bar {
            Some(bar) => {
                bar.set_position(seed.env_steps);
                bar.set_message(text);
            }
            None if seed.last_line.is_none_or(|last| now - last >= PLAIN_INTERVAL) => {
                seed.last_line = Some(now);
                self.print(&format!("seed {number}: {text}"));
            }
            None => {}
        }
    }

    fn share(&self, value: f64) -> String {
        self.scale.percent(value).map_or_else(String::new, |share| format!(" ({share})"))
    }

    fn progress_text(&self, seed: &Seed) -> String {
        let mut parts = vec![format!(
            "{}/{} steps ({} in all)",
            grouped(seed.env_steps),
            grouped(seed.budget),
            grouped(seed.env_steps_total)
        )];
        parts.extend(seed.mean_return.map(|value| format!("return {}{}", short(value), self.share(value))));
        parts.extend(seed.gap.map(|gap| format!("gap {gap:.3}")));
        parts.extend(seed.model_error.map(|error| format!("model error {error:.2e}")));
        parts.extend(seed.imagination.as_ref().and_then(strays));
        parts.extend(seed.pace.grad_steps_per_sec().map(|rate| format!("{rate:.0} grad/s")));
        let left = seed.budget.saturating_sub(seed.env_steps);
        if left > 0 {
            parts.extend(seed.pace.time_for(left).map(|time| format!("{} left", duration(time))));
        }
        parts.join(" · ")
    }

    fn evaluation_text(&self, env_steps: u64, episodes: &[Episode]) -> String {
        let (mean, count) = (mean_return(episodes), episodes.len() as f64);
        let variance = episodes.iter().map(|e| (e.total_reward - mean).powi(2)).sum::<f64>() / count;
        let length = episodes.iter().map(|e| e.length as f64).sum::<f64>() / count;
        format!(
            "evaluated at {} steps: return {} ± {}{}, length {}, {count} episodes",
            grouped(env_steps),
            short(mean),
            short(variance.sqrt()),
            self.share(mean),
            short(length),
        )
    }
}

impl Observer for Terminal {
    #[allow(clippy::disallowed_methods, reason = "the clock paces what is shown; nothing of it reaches the learner")]
    fn observe(&self, event: &Event) {
        let now = Instant::now();
        let mut seeds = self.seeds.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { seed, env_steps, budget } => {
                let bar = self.bar(*seed, *budget);
                seeds.insert(*seed, Seed { bar, budget: *budget, env_steps: *env_steps, ..Seed::default() });
            }
            Event::Learned { seed: number, env_steps_total, report } => {
                let seed = seeds.entry(*number).or_default();
                seed.pace.note(now, report.env_steps, report.grad_steps);
                (seed.env_steps, seed.env_steps_total) = (report.env_steps, *env_steps_total);
                seed.gap = report.discriminator.map(|d| d.disc_gap).or(seed.gap);
                seed.model_error = report.world_model.map(|fit| fit.model_error).or(seed.model_error);
                seed.imagination = report.imagination.or(seed.imagination);
                self.show(*number, seed, now, self.progress_text(seed));
            }
            Event::Fitting { seed: number, env_steps, progress } => {
                let seed = seeds.entry(*number).or_default();
                seed.env_steps = *env_steps;
                let text = fitting_text(seed, progress);
                self.show(*number, seed, now, text);
            }
            Event::Evaluated { seed, env_steps, episodes, .. } => {
                seeds.entry(*seed).or_default().mean_return = Some(mean_return(episodes));
                self.print(&format!("seed {seed}: {}", self.evaluation_text(*env_steps, episodes)));
            }
            Event::Saved { .. } => {}
            Event::Ended { seed, .. } => {
                if let Some(bar) = seeds.get(seed).and_then(|seed| seed.bar.as_ref()) {
                    bar.abandon();
                }
            }
        }
    }
}

fn fitting_text(seed: &Seed, fit: &FitProgress) -> String {
    format!(
        "{}/{} steps · fitting the model, epoch {}, error {:.2e}",
        grouped(seed.env_steps),
        grouped(seed.budget),
        grouped(fit.epochs),
        fit.error
    )
}

/// Imagined states that left the data or were no numbers.
fn strays(imagination: &Imagination) -> Option<String> {
    let not_finite = imagination.imagined_not_finite;
    let all = imagination.imagined_steps + not_finite;
    let beyond = imagination.imagined_out_of_bounds;
    let share = 100.0 * beyond as f64 / all.max(beyond) as f64;
    let of_no_number = if not_finite > 0 { format!(", {} not finite", grouped(not_finite)) } else { String::new() };
    (all > 0).then(|| format!("{share:.1} % imagined beyond the data{of_no_number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    fn lines_say_what_matters() {
        let scale = Scale { expert_return: Some(3000.0), random_return: Some(0.0) };
        let terminal = Terminal { bars: None, scale, seeds: Mutex::default() };
        let mut seed = Seed {
            budget: 200_000,
            env_steps: 3_000,
            env_steps_total: 3_400,
            mean_return: Some(600.0),
            gap: Some(0.25),
            ..Seed::default()
        };
        let start = Instant::now();
        seed.pace.note(start, 1_000, 900);
        seed.pace.note(start + Duration::from_secs(10), 3_000, 2_900);
        assert_eq!(
            terminal.progress_text(&seed),
            "3,000/200,000 steps (3,400 in all) · return 600 (20 % of expert) · gap 0.250 · 200 grad/s · 16 min left"
        );
        seed.model_error = Some(0.0012);
        seed.imagination = Some(Imagination {
            imagined_steps: 1_990,
            imagined_not_finite: 10,
            imagined_out_of_bounds: 50,
            ..Imagination::default()
        });
        assert_eq!(
            terminal.progress_text(&seed),
            "3,000/200,000 steps (3,400 in all) · return 600 (20 % of expert) · gap 0.250 · model error 1.20e-3 · \
             2.5 % imagined beyond the data, 10 not finite · 200 grad/s · 16 min left"
        );
        assert_eq!(
            fitting_text(
                &Seed { budget: 200_000, env_steps: 1_000, ..Seed::default() },
                &FitProgress { epochs: 12, error: 0.0123 }
            ),
            "1,000/200,000 steps · fitting the model, epoch 12, error 1.23e-2"
        );
        let episodes = [(1_000.0, 300), (2_000.0, 500)].map(|(total_reward, length)| Episode { total_reward, length });
        assert_eq!(
            terminal.evaluation_text(50_000, &episodes),
            "evaluated at 50,000 steps: return 1500 ± 500 (50 % of expert), length 400, 2 episodes"
        );
    }
}
