//! Learning curves of several runs: grouped by method, aggregated over seeds.

use super::Scale;
use super::evaluations::EvaluationLine;
use super::source::Run;
use super::statistics::{bootstrap_interval, interquartile_mean};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// One point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Policy and exploration steps (the same for all seeds, up to the length of a training chunk).
    pub env_steps: f64,
    /// All real steps, mean over seeds: seeds differ in the lengths of their rollout episodes.
    pub env_steps_total: f64,
    /// Interquartile mean over seeds of the mean return over episodes.
    pub iqm: f64,
    /// Its [`bootstrap_interval`] over seeds; absent for a single seed.
    pub interval: Option<(f64, f64)>,
}

/// The curve of one method.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What the legend says.
    pub label: String,
    /// Method name.
    pub method: String,
    /// Its seeds.
    pub seeds: Vec<u64>,
    /// Its points, by steps.
    pub points: Vec<CurvePoint>,
    /// Evaluations left out because not every seed has them.
    pub incomplete_points: usize,
}

/// Curves on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// Task id.
    pub task: String,
    /// One per method, in the order of the runs.
    pub curves: Vec<Curve>,
    /// Expert and random return, where a run knows them.
    pub scale: Scale,
    /// Why runs of one method are curves apart.
    pub notes: Vec<String>,
}

/// The first line of a table of curves.
pub const CSV_HEADER: &str = "task,method,label,n_seeds,env_steps,env_steps_total,return_iqm,low_95,high_95";

/// Reads `runs`, or files of evaluations that were kept of some (`NAME=FILE.jsonl`) on `task`, and aggregates them.
///
/// # Errors
/// When one cannot be read or has no evaluation, they are of different tasks, or the seeds of a method were evaluated at
/// different steps.
pub fn read(runs: &[PathBuf], task: Option<&str>) -> Result<Curves> {
    let mut first: Option<String> = task.map(str::to_owned);
    let mut scale = Scale::default();
    let mut loaded: Vec<Run> = Vec::new();
    let mut paths = BTreeSet::new();
    for named in runs {
        let run = Run::read(named, task)?;
        let first = first.get_or_insert_with(|| run.task.clone());
        if *first != run.task {
            return Err(Error::config("the runs are of different tasks")
                .expected(format!("all of {first}"))
                .found(format!("{} in {}", run.task, named.display()))
                .hint("plot each task by itself"));
        }
        scale.expert_return = scale.expert_return.or(run.scale.expert_return);
        scale.random_return = scale.random_return.or(run.scale.random_return);
        if run.evaluations.is_empty() {
            return Err(Error::data(format!("{} has no evaluation yet", named.display())));
        }
        let whole = std::fs::canonicalize(&run.path).map_err(|source| Error::io("resolve", &run.path, source))?;
        if !paths.insert(whole) {
            return Err(Error::config(format!("{} is named twice", named.display())).expected("each run once"));
        }
        loaded.push(run);
    }
    let task = first;
    let mut curves = Vec::new();
    let (groups, notes) = group(&loaded);
    for Group { label, method, runs } in groups {
        curves.push(curve(label, method, &runs)?);
    }
    Ok(Curves { task: task.unwrap_or_default(), curves, scale, notes })
}

/// The runs of one curve.
struct Group<'a> {
    label: String,
    method: &'a str,
    runs: Vec<&'a Run>,
}

/// Runs of one method and the same settings make one group, unless they share a seed: then each is a group of its own. Where
/// a method has several groups, they are named by their folders; a note says in which setting those of several kinds differ.
fn group(runs: &[Run]) -> (Vec<Group<'_>>, Vec<String>) {
    let (mut groups, mut notes) = (Vec::new(), Vec::new());
    let mut methods: Vec<&str> = Vec::new();
    for run in runs {
        if methods.contains(&run.method.as_str()) {
            continue;
        }
        methods.push(&run.method);
        let mut kinds: Vec<Vec<&Run>> = Vec::new();
        for member in runs.iter().filter(|other| other.method == run.method) {
            match kinds.iter_mut().find(|kind| kind[0].settings == member.settings) {
                Some(kind) => kind.push(member),
                None => kinds.push(vec![member]),
            }
        }
        notes.extend(kinds.iter().skip(1).map(|kind| difference(kinds[0][0], kind[0])));
        let parts = kinds.into_iter().flat_map(|kind| {
            let mut seen = BTreeSet::new();
            let apart = kind.iter().all(|run| seeds_of(run).into_iter().all(|seed| seen.insert(seed)));
            if apart { vec![kind] } else { kind.into_iter().map(|run| vec![run]).collect() }
        });
        let parts: Vec<Vec<&Run>> = parts.collect();
        let several = parts.len() > 1;
        groups.extend(parts.into_iter().map(|runs| {
            let folders = runs.iter().map(|run| run.name()).collect::<Vec<_>>().join(", ");
            let method = label_of(&run.method);
            let label = if several { format!("{method} {folders}") } else { method.to_owned() };
            Group { label, method: &run.method, runs }
        }));
    }
    (groups, notes)
}

fn difference(one: &Run, other: &Run) -> String {
    let text = |value: Option<&String>| {
        value.map_or_else(|| "not set".to_owned(), |value| value.chars().take(40).collect::<String>())
    };
    let mut differ = crate::config::differences(&one.settings, &other.settings);
    let first = differ
        .next()
        .map_or_else(String::new, |(key, one, other)| format!("`{key}` is {} and {}", text(one), text(other)));
    let more = match differ.count() {
        0 => String::new(),
        count => format!(", and {count} more settings differ"),
    };
    format!("{} and {} are curves apart: {first}{more}", one.name(), other.name())
}

fn seeds_of(run: &Run) -> BTreeSet<u64> {
    run.evaluations.iter().map(|line| line.seed).collect()
}

/// A method's name as its paper writes it.
fn label_of(method: &str) -> &str {
    crate::config::methods().iter().find(|known| known.name == method).map_or(method, |known| known.label)
}

/// Mean return and both step counts of one evaluation of one seed.
struct SeedPoint {
    env_steps: u64,
    env_steps_total: u64,
    mean_return: f64,
}

fn curve(label: String, method: &str, runs: &[&Run]) -> Result<Curve> {
    let mut by_seed: BTreeMap<u64, BTreeMap<u64, Vec<&EvaluationLine>>> = BTreeMap::new();
    for line in runs.iter().flat_map(|run| &run.evaluations) {
        by_seed.entry(line.seed).or_default().entry(line.env_steps).or_default().push(line);
    }
    let series: Vec<Vec<SeedPoint>> = by_seed
        .values()
        .map(|points| {
            points
                .iter()
                .map(|(env_steps, lines)| SeedPoint {
                    env_steps: *env_steps,
                    env_steps_total: lines[0].env_steps_total,
                    mean_return: lines.iter().map(|line| line.episode_return).sum::<f64>() / lines.len() as f64,
                })
                .collect()
        })
        .collect();
    let complete = series.iter().map(Vec::len).min().unwrap_or(0);
    let most = series.iter().map(Vec::len).max().unwrap_or(0);
    let points = (0..complete)
        .map(|index| {
            let at: Vec<&SeedPoint> = series.iter().map(|points| &points[index]).collect();
            check_same_steps(&label, index, &at)?;
            let returns: Vec<f64> = at.iter().map(|point| point.mean_return).collect();
            let mean = |value: fn(&SeedPoint) -> u64| at.iter().map(|p| value(p) as f64).sum::<f64>() / at.len() as f64;
            Ok(CurvePoint {
                env_steps: mean(|point| point.env_steps),
                env_steps_total: mean(|point| point.env_steps_total),
                iqm: interquartile_mean(&returns),
                interval: bootstrap_interval(&returns, &format!("plot/{label}/{index}")),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let seeds = by_seed.keys().copied().collect();
    Ok(Curve { label, method: method.to_owned(), seeds, points, incomplete_points: most - complete })
}

/// Seeds are compared at the same evaluation; that means something only where it came at about the same step.
fn check_same_steps(label: &str, index: usize, points: &[&SeedPoint]) -> Result<()> {
    let first = points.iter().map(|point| point.env_steps).min().unwrap_or(0);
    let last = points.iter().map(|point| point.env_steps).max().unwrap_or(0);
    if last - first <= 100.max(last / 20) {
        return Ok(());
    }
    Err(Error::data(format!("the seeds of {label} were evaluated at different steps"))
        .expected("the same eval.every in all of them")
        .found(format!("evaluation {index} at step {first} and at step {last}"))
        .hint("plot these runs apart"))
}

impl Curves {
    /// A fault of the published model-free figures (hype.md 9): each evaluation stands at the steps of the one before it,
    /// the first at 0.
    pub fn shift_as_published(&mut self) {
        for curve in &mut self.curves {
            let (mut env_steps, mut env_steps_total) = (0.0, 0.0);
            for point in &mut curve.points {
                std::mem::swap(&mut point.env_steps, &mut env_steps);
                std::mem::swap(&mut point.env_steps_total, &mut env_steps_total);
            }
        }
    }

    /// The points as CSV, with the seeds they stand for.
    pub fn to_csv(&self) -> String {
        let mut text = format!("{CSV_HEADER}\n");
        let quoted = |field: &str| format!("\"{}\"", field.replace('"', "\"\""));
        for curve in &self.curves {
            for point in &curve.points {
                let (low, high) = point.interval.map_or_else(Default::default, |(l, h)| (l.to_string(), h.to_string()));
                let fields = [
                    quoted(&self.task),
                    quoted(&curve.method),
                    quoted(&curve.label),
                    curve.seeds.len().to_string(),
                    point.env_steps.to_string(),
                    point.env_steps_total.to_string(),
                    point.iqm.to_string(),
                    low,
                    high,
                ];
                text.push_str(&fields.join(","));
                text.push('\n');
            }
        }
        text
    }
}

/// The file next to `svg` that holds its numbers.
pub fn csv_path(svg: &Path) -> PathBuf {
    svg.with_extension("csv")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::run::Provenance;
    use std::fmt::Write as _;

    /// A run directory on disk: for each seed the returns of its evaluations, every 1000 steps, two episodes each.
    pub(crate) fn run(folder: &Path, name: &str, method: &str, seeds: &[(u64, Vec<f64>)]) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir(&path).unwrap();
        let provenance = Provenance {
            method: method.to_owned(),
            task: "toy".to_owned(),
            expert_return: Some(100.0),
            random_return: Some(-20.0),
            ..Provenance::default()
        };
        std::fs::write(path.join("provenance.json"), serde_json::to_string(&provenance).unwrap()).unwrap();
        std::fs::write(path.join("config.toml"), format!("env_steps = 5000\nseeds = [{}]\n", seeds.len())).unwrap();
        let mut text = String::new();
        for (seed, returns) in seeds {
            for (index, value) in (1..).zip(returns) {
                for (episode, offset) in [(0, -1.0), (1, 1.0)] {
                    let line = EvaluationLine {
                        seed: *seed,
                        env_steps: 1000 * index,
                        env_steps_total: 1000 * index + 100 * seed,
                        episode,
                        episode_return: value + offset,
                        length: 10,
                    };
                    writeln!(text, "{}", serde_json::to_string(&line).unwrap()).unwrap();
                }
            }
        }
        std::fs::write(path.join("eval.jsonl"), text).unwrap();
        path
    }

    #[test]
    fn seeds_of_a_method_are_aggregated_across_runs() {
        let folder = tempfile::tempdir().unwrap();
        let first = run(folder.path(), "a", "hype", &[(0, vec![1.0, 10.0]), (1, vec![2.0, 20.0])]);
        let second = run(folder.path(), "b", "hype", &[(2, vec![3.0, 60.0, 99.0])]);
        let third = run(folder.path(), "c", "mm", &[(0, vec![5.0])]);
        let curves = read(&[first, second, third], None).unwrap();
        let [hype, mm] = &curves.curves[..] else { panic!("{:?}", curves.curves) };
        assert_eq!((hype.label.as_str(), hype.seeds.as_slice(), hype.incomplete_points), ("HyPE", &[0, 1, 2][..], 1));
        assert_eq!(hype.points.iter().map(|p| p.iqm).collect::<Vec<_>>(), [2.0, 30.0]);
        assert_eq!((hype.points[1].env_steps, hype.points[1].env_steps_total), (2000.0, 2100.0));
        assert_eq!((mm.points[0].iqm, mm.points[0].interval), (5.0, None));
        assert_eq!(curves.scale.expert_return, Some(100.0));
        let csv = curves.to_csv();
        assert_eq!(csv.lines().count(), 4);
        assert_eq!(csv.lines().last(), Some(r#""toy","mm","MM",1,1000,1000,5,,"#));
    }

    #[test]
    fn published_figures_are_one_evaluation_early() {
        let folder = tempfile::tempdir().unwrap();
        let mut curves = read(&[run(folder.path(), "a", "mm", &[(1, vec![1.0, 2.0, 3.0])])], None).unwrap();
        let steps = |curves: &Curves| -> Vec<[f64; 3]> {
            curves.curves[0].points.iter().map(|p| [p.env_steps, p.env_steps_total, p.iqm]).collect()
        };
        assert_eq!(steps(&curves), [[1000.0, 1100.0, 1.0], [2000.0, 2100.0, 2.0], [3000.0, 3100.0, 3.0]]);
        curves.shift_as_published();
        assert_eq!(steps(&curves), [[0.0, 0.0, 1.0], [1000.0, 1100.0, 2.0], [2000.0, 2100.0, 3.0]]);
    }

    #[test]
    fn runs_that_share_a_seed_are_curves_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let runs = ["a", "b"].map(|name| run(folder.path(), name, "mm", &[(0, vec![1.0])]));
        let labels: Vec<String> = read(&runs, None).unwrap().curves.into_iter().map(|curve| curve.label).collect();
        assert_eq!(labels, ["MM a", "MM b"]);
        let twice = read(&[runs[0].clone(), folder.path().join("b/../a")], None).unwrap_err().to_string();
        assert!(twice.contains("named twice"), "{twice}");
    }

    #[test]
    fn runs_of_other_settings_are_curves_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let runs = [0, 1].map(|seed| run(folder.path(), &format!("r{seed}"), "mm", &[(seed, vec![1.0])]));
        let labels = || read(&runs, None).unwrap().curves.into_iter().map(|curve| curve.label).collect::<Vec<_>>();
        assert_eq!(labels(), ["MM"], "seeds apart, everything else alike");
        std::fs::write(runs[1].join("config.toml"), "env_steps = 5000\n[reward]\nmembers = 2\n").unwrap();
        assert_eq!(labels(), ["MM r0", "MM r1"]);
        let notes = read(&runs, None).unwrap().notes;
        assert_eq!(notes, ["r0 and r1 are curves apart: `reward.members` is not set and 2"]);
        let third = run(folder.path(), "r2", "mm", &[(2, vec![1.0])]);
        let all = read(&[&runs[..], &[third]].concat(), None).unwrap();
        assert_eq!(all.curves.iter().map(|curve| curve.label.as_str()).collect::<Vec<_>>(), ["MM r0, r2", "MM r1"]);
    }

    #[test]
    fn kept_files_of_evaluations_are_curves() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |name: &str, seeds: &[(u64, Vec<f64>)]| {
            let run = run(folder.path(), name, "mm", seeds);
            std::fs::rename(run.join("eval.jsonl"), folder.path().join(format!("{name}.eval.jsonl"))).unwrap();
            folder.path().join(format!("{name}.eval.jsonl")).display().to_string()
        };
        let (first, second) = (keep("a", &[(0, vec![1.0]), (1, vec![2.0])]), keep("b", &[(2, vec![6.0])]));
        let read = |args: &[&str], task| super::read(&args.iter().map(PathBuf::from).collect::<Vec<_>>(), task);
        let (one, other) = (format!("hype={first}"), format!("hype={second}"));
        let curves = read(&[&one, &other], Some("hopper")).unwrap();
        assert_eq!((curves.curves[0].label.as_str(), curves.curves[0].points[0].iqm), ("HyPE", 3.0), "seeds of both");
        assert_eq!((curves.task.as_str(), curves.scale.random_return), ("hopper", Some(17.88)));
        let curves = read(&[&one, &second], Some("hopper")).unwrap();
        assert_eq!(curves.curves.iter().map(|curve| curve.label.as_str()).collect::<Vec<_>>(), ["HyPE", "b"]);
        let error = read(&[&one], None).unwrap_err().to_string();
        assert!(error.contains("a.eval.jsonl") && error.contains("--task"), "{error}");
        assert!(read(&[&one], Some("hoper")).unwrap_err().to_string().contains("hopper"));
        assert!(read(&["mm=absent.jsonl"], Some("hopper")).unwrap_err().to_string().contains("absent.jsonl"));
        let run = run(folder.path(), "c", "mm", &[(0, vec![1.0])]).display().to_string();
        assert!(read(&[&one, &run], Some("hopper")).unwrap_err().to_string().contains("different tasks"));
    }

    #[test]
    fn curves_that_cannot_be_compared_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let good = run(folder.path(), "good", "mm", &[(0, vec![1.0])]);
        let empty = run(folder.path(), "empty", "mm", &[]);
        assert!(read(&[good.clone(), empty], None).unwrap_err().to_string().contains("no evaluation yet"));
        let damaged = run(folder.path(), "damaged", "mm", &[(1, vec![1.0])]);
        std::fs::write(damaged.join("eval.jsonl"), "{\"seed\":0}\n").unwrap();
        assert!(read(&[damaged], None).unwrap_err().to_string().contains("line 1 is no evaluation"));
        let shifted = run(folder.path(), "shifted", "mm", &[(1, vec![1.0])]);
        let text = std::fs::read_to_string(shifted.join("eval.jsonl")).unwrap().replace("1000", "5000");
        std::fs::write(shifted.join("eval.jsonl"), text).unwrap();
        assert!(read(&[good.clone(), shifted], None).unwrap_err().to_string().contains("different steps"));
        let other = run(folder.path(), "other", "mm", &[(1, vec![1.0])]);
        let text = std::fs::read_to_string(other.join("provenance.json")).unwrap().replace("toy", "hopper");
        std::fs::write(other.join("provenance.json"), text).unwrap();
        assert!(read(&[good, other], None).unwrap_err().to_string().contains("different tasks"));
        assert!(read(&[folder.path().join("absent")], None).is_err());
    }
}
