//! `hype plot`: learning curves of runs, as SVG and CSV.

use crate::error::{Error, Result};
use crate::observe::curves::{CSV_HEADER, Curve, CurvePoint, Curves, csv_path, read};
use crate::observe::statistics::{BOOTSTRAP_RESAMPLES, LEAST_FOR_INTERVAL};
use crate::observe::svg::{Chart, Mark, Panel, Point, Reference, Series, render};
use crate::observe::text::{grouped, short};
use crate::run::files;
use clap::Args;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Draws learning curves: interquartile mean over seeds with its 95 % bootstrap interval (of two or three seeds: mean and range),
/// against both step counts.
#[derive(Debug, Clone, Args)]
pub struct PlotArgs {
    /// Run directories, all of one task; runs of one method and the same settings are one curve, unless they share a seed. Or
    /// files kept of some: METHOD=FILE.jsonl, with --task.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The task that files of evaluations are of.
    #[arg(long)]
    pub task: Option<String>,
    /// The SVG file; a CSV with its numbers is written next to it.
    #[arg(short = 'o', long, value_name = "SVG")]
    pub output: PathBuf,
    /// Put each evaluation at the steps of the one before it, as the published model-free figures do (a fault of theirs).
    #[arg(long)]
    pub as_published: bool,
    /// Points of another source to draw beside the curves: lines like {"method": "hype", "env_steps": 50000, "return": 1460},
    /// "task" beside them where it is to be checked.
    #[arg(long, value_name = "JSONL")]
    pub reference: Option<PathBuf>,
    /// What the expert of these runs had, where that is another than their task's shipped one.
    #[arg(long, value_name = "RETURN", allow_negative_numbers = true)]
    pub expert_return: Option<f64>,
}

/// More steps than anything learns in; a point beyond would shrink the curves to a line.
const MOST_STEPS: f64 = 1e12;

/// One line of a `--reference` file.
#[derive(Debug, Clone, Deserialize)]
struct Published {
    /// Where the line says so, it must be the chart's.
    task: Option<String>,
    method: String,
    env_steps: f64,
    #[serde(rename = "return")]
    value: f64,
}

/// Runs `hype plot`.
///
/// # Errors
/// When a run cannot be read, the runs do not belong into one chart, or a file cannot be written.
pub fn plot(args: &PlotArgs, out: &mut dyn Write) -> Result<()> {
    if args.output.extension().is_none_or(|extension| extension != "svg") {
        return Err(Error::config("hype plot writes SVG files")
            .expected("a name that ends in .svg")
            .found(args.output.display()));
    }
    let table = csv_path(&args.output);
    [&args.output, &table].into_iter().try_for_each(|file| files::check_folder_of(file))?;
    check_own(&table)?;
    let mut curves = read(&args.runs, args.task.as_deref())?;
    if let Some(value) = args.expert_return {
        if !value.is_finite() {
            return Err(Error::config("an expert's return must be finite")
                .expected("--expert-return 3000, say")
                .found(value));
        }
        curves.scale.expert_return = Some(value);
    }
    if args.as_published {
        curves.shift_as_published();
    }
    let published =
        args.reference.as_deref().map(|path| published(path, &curves.task)).transpose()?.unwrap_or_default();
    files::write(&args.output, render(&chart(&curves, &published)).as_bytes())?;
    files::write(&table, curves.to_csv().as_bytes())?;
    let mut lines: Vec<String> = curves.curves.iter().map(|curve| summary(&curves, curve)).collect();
    lines.extend(curves.notes.iter().cloned());
    lines.push(format!("wrote {} and {}", args.output.display(), table.display()));
    writeln!(out, "{}", lines.join("\n")).map_err(|source| Error::system("cannot write to stdout").source(source))
}

/// Refuses to replace a table that is not one of curves: nobody named it.
fn check_own(table: &Path) -> Result<()> {
    let Ok(file) = File::open(table) else { return Ok(()) };
    let mut first = String::new();
    let read = BufReader::new(file.take(CSV_HEADER.len() as u64 + 1)).read_line(&mut first);
    if read.is_ok() && first.trim_end() == CSV_HEADER {
        return Ok(());
    }
    Err(Error::config(format!("{} is in the way of the curves' numbers", table.display()))
        .expected("no file, or an earlier table of curves")
        .hint("another name with -o, or move that file away"))
}

fn published(path: &Path, task: &str) -> Result<Vec<Published>> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::data(format!("cannot read {}", path.display())).source(source))?;
    let row = |(index, line): (usize, &str)| {
        let refused = || {
            Error::data(format!("{}, line {}", path.display(), index + 1))
                .expected(r#"{"method": "hype", "env_steps": 50000, "return": 1460}"#)
        };
        let row: Published = serde_json::from_str(line).map_err(|source| refused().source(source))?;
        if !(0.0..=MOST_STEPS).contains(&row.env_steps) {
            return Err(refused().found(format!("env_steps {}, not 0 to {MOST_STEPS:e}", row.env_steps)));
        }
        Ok(row)
    };
    let rows: Vec<Published> =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(row).collect::<Result<_>>()?;
    if rows.is_empty() {
        return Err(Error::data(format!("{} has no line", path.display())).expected("points to draw, one a line"));
    }
    match rows.iter().find_map(|row| row.task.as_deref().filter(|of| *of != task)) {
        Some(other) => Err(Error::data(format!("{} is of another task", path.display())).expected(task).found(other)),
        None => Ok(rows),
    }
}

/// One line per curve: where it ends.
fn summary(curves: &Curves, curve: &Curve) -> String {
    let Some(last) = curve.points.last() else { return format!("{}: no evaluation that all seeds have", curve.label) };
    let interval = last.interval.map_or_else(
        || "no interval from one seed".to_owned(),
        |(low, high)| format!("{} {} to {}", interval_name(curve), short(low), short(high)),
    );
    let share = curves.scale.percent(last.iqm).map_or_else(String::new, |share| format!(", {share}"));
    let left_out = match curve.incomplete_points {
        0 => String::new(),
        count => format!("; {count} later evaluations left out, which not all seeds have yet"),
    };
    format!(
        "{}, n={}, at {} steps: return {} ({interval}{share}){left_out}",
        curve.label,
        curve.seeds.len(),
        grouped(last.env_steps as u64),
        short(last.iqm),
    )
}

/// What stands around the mean: of two or three seeds nothing but their range is known.
fn interval_name(curve: &Curve) -> &'static str {
    if curve.seeds.len() < LEAST_FOR_INTERVAL { "range" } else { "95 % interval" }
}

/// What the lines and bands of the curves are.
fn meaning(curves: &Curves) -> String {
    let few = "mean over seeds and their range";
    let many = format!(
        "interquartile mean over seeds, 95 % bootstrap interval ({} resamples of seeds)",
        grouped(BOOTSTRAP_RESAMPLES as u64)
    );
    let is_few = |curve: &&Curve| curve.seeds.len() < LEAST_FOR_INTERVAL;
    match curves.curves.iter().filter(is_few).count() {
        0 => many,
        count if count == curves.curves.len() => few.to_owned(),
        _ => format!("{many}; of fewer than {LEAST_FOR_INTERVAL}: {few}"),
    }
}

fn chart(curves: &Curves, published: &[Published]) -> Chart {
    let axis = |steps: fn(&CurvePoint) -> f64| {
        let widest =
            curves.curves.iter().filter(|c| !is_flat(c)).flat_map(|c| &c.points).map(steps).fold(0.0, f64::max);
        curves.curves.iter().map(|curve| series(curve, steps, if widest > 0.0 { widest } else { 1.0 })).collect()
    };
    let reference =
        |label: &str, value: Option<f64>| value.map(|y| Reference { label: format!("{label} {}", short(y)), y });
    let mark = |row: &Published| {
        let series = curves.curves.iter().position(|curve| curve.method == row.method);
        Mark { series, x: row.env_steps, y: row.value }
    };
    let references = [reference("expert", curves.scale.expert_return), reference("random", curves.scale.random_return)];
    Chart {
        title: format!("Learning on {}", curves.task),
        subtitle: format!("true return: {}", meaning(curves)),
        y_label: "return".to_owned(),
        references: references.into_iter().flatten().collect(),
        marks_label: (!published.is_empty()).then(|| "published, in the method's colour".to_owned()),
        panels: vec![
            Panel {
                x_label: "environment steps (policy and exploration)".to_owned(),
                series: axis(|p| p.env_steps),
                marks: published.iter().map(mark).collect(),
            },
            Panel {
                x_label: "all real steps (with discriminator rollouts)".to_owned(),
                series: axis(|p| p.env_steps_total),
                marks: Vec::new(),
            },
        ],
    }
}

/// Behavioural cloning takes no environment steps: its last value is a level, not a curve.
fn is_flat(curve: &Curve) -> bool {
    curve.method == "bc"
}

fn series(curve: &Curve, steps: fn(&CurvePoint) -> f64, widest: f64) -> Series {
    let point = |x: f64, point: &CurvePoint| Point { x, y: point.iqm, interval: point.interval };
    let count = curve.seeds.len();
    if let (true, Some(last)) = (is_flat(curve), curve.points.last()) {
        let label = format!("{} (n={count}, final level)", curve.label);
        return Series { label, points: vec![point(0.0, last), point(widest, last)] };
    }
    let label = format!("{} (n={count})", curve.label);
    Series { label, points: curve.points.iter().map(|p| point(steps(p), p)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::curves::tests::run;

    #[test]
    fn a_chart_and_its_numbers_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let grow = |rate: f64| (1..=20).map(|i| 100.0 * (1.0 - (-rate * f64::from(i)).exp())).collect::<Vec<_>>();
        let hype: Vec<_> = (0..5).map(|seed| (seed, grow(0.1 + 0.02 * seed as f64))).collect();
        let mm: Vec<_> = (0..5).map(|seed| (seed, grow(0.03 + 0.01 * seed as f64))).collect();
        let runs = vec![
            run(folder.path(), "a", "hype", &hype),
            run(folder.path(), "b", "mm", &mm),
            run(folder.path(), "c", "bc", &[(0, vec![30.0, 47.0])]),
        ];
        let output = folder.path().join("curves.svg");
        let mut text = Vec::new();
        let reference = folder.path().join("published.jsonl");
        std::fs::write(&reference, "{\"method\": \"mm\", \"env_steps\": 5000, \"return\": 42}\n\n").unwrap();
        let args = PlotArgs {
            runs,
            task: None,
            output: output.clone(),
            as_published: false,
            reference: Some(reference.clone()),
            expert_return: None,
        };
        plot(&args, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("HyPE, n=5, at 20,000 steps") && text.contains("% of expert"), "{text}");
        assert!(text.contains("BC, n=1, at 2,000 steps: return 47.0 (no interval"), "{text}");
        let svg = std::fs::read_to_string(&output).unwrap();
        assert!(svg.contains("interquartile mean over seeds"));
        assert!(svg.contains("of fewer than 4: mean over seeds and their range"));
        for part in ["HyPE (n=5)", "MM (n=5)", "BC (n=1, final level)", "expert 100", "random -20.0"] {
            assert!(svg.contains(part), "{part} is missing");
        }
        assert_eq!(svg.matches("<polygon").count(), 4, "two bands in two panels");
        assert_eq!(std::fs::read_to_string(output.with_extension("csv")).unwrap().lines().count(), 1 + 20 + 20 + 2);
        assert_eq!(svg.matches("<path").count(), 2, "one published point and its legend entry");
        plot(&PlotArgs { expert_return: Some(75.5), ..args.clone() }, &mut Vec::new()).unwrap();
        let svg = std::fs::read_to_string(&output).unwrap();
        assert!(svg.contains("expert 75.5") && !svg.contains("expert 100"), "another expert's");
        let error = plot(&PlotArgs { expert_return: Some(f64::NAN), ..args.clone() }, &mut Vec::new()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        for (line, word) in [
            ("{\"task\": \"ant\", \"method\": \"mm\", \"env_steps\": 5, \"return\": 4}", "expected toy; found ant"),
            ("\n", "has no line"),
            ("{\"method\": \"mm\", \"env_steps\": -5, \"return\": 4}", "env_steps -5"),
        ] {
            std::fs::write(&reference, line).unwrap();
            let error = plot(&args, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        std::fs::write(output.with_extension("csv"), "thesis,data\n").unwrap();
        let error = plot(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("in the way") && error.contains("curves.csv"), "{error}");
        std::fs::remove_file(output.with_extension("csv")).unwrap();
        std::fs::write(&reference, "5000,42").unwrap();
        let error = plot(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("env_steps"), "{error}");
        if let Ok(keep) = std::env::var("HYPE_KEEP_CHART") {
            std::fs::copy(&output, keep).unwrap();
        }
    }

    #[test]
    fn only_svg_is_written() {
        let args = PlotArgs {
            runs: vec![PathBuf::from("x")],
            task: None,
            output: PathBuf::from("x.png"),
            as_published: false,
            reference: None,
            expert_return: None,
        };
        let error = plot(&args, &mut Vec::new()).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
