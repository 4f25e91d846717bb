//! Line charts as SVG: panels side by side that share their y axis and one legend.

use std::fmt::Write as _;

/// A point with an optional interval around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Position on the x axis.
    pub x: f64,
    /// Position on the y axis.
    pub y: f64,
    /// Lower and upper end of the interval.
    pub interval: Option<(f64, f64)>,
}

/// A line with its band.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub label: String,
    /// Its points, by x.
    pub points: Vec<Point>,
}

/// A dashed horizontal line.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// What the legend says.
    pub label: String,
    /// Position on the y axis.
    pub y: f64,
}

/// A point from elsewhere beside a series, drawn as an open diamond.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Which series' colour it has; grey without one.
    pub series: Option<usize>,
    /// Position on the x axis; beyond its end nothing is drawn.
    pub x: f64,
    /// Position on the y axis.
    pub y: f64,
}

/// One panel. Series of the same index have the same colour in all panels.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Name of the x axis.
    pub x_label: String,
    /// Its lines.
    pub series: Vec<Series>,
    /// Its marks.
    pub marks: Vec<Mark>,
}

/// A whole chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Bold line at the top.
    pub title: String,
    /// Smaller line below it.
    pub subtitle: String,
    /// Name of the y axis.
    pub y_label: String,
    /// Dashed lines in every panel.
    pub references: Vec<Reference>,
    /// What the legend says of the marks.
    pub marks_label: Option<String>,
    /// Side by side; all must have the same series.
    pub panels: Vec<Panel>,
}

/// Colours that people with colour-blindness tell apart (Okabe and Ito), the darker ones first.
const COLOURS: [&str; 10] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#7a4fbf", "#555555", "#8b1a1a", "#a6a600"];
/// Colour of the marks in the legend, and of those without a series.
const MARK_COLOUR: &str = "#444";
/// Greys of the dashed lines, and their dash patterns.
const DASHES: [&str; 2] = ["7 4", "2 4"];

const PANEL_WIDTH: f64 = 400.0;
const PANEL_HEIGHT: f64 = 290.0;
const PANEL_GAP: f64 = 36.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 26.0;
const BOTTOM: f64 = 58.0;
const LEGEND_ROW: f64 = 20.0;

/// Positions of about `wanted` ticks that cover `low..high`: multiples of 1, 2, 2.5 or 5 times a power of ten. The first
/// is at or below `low`, the last at or above `high`.
pub fn ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let span = if high > low { high - low } else { low.abs().max(1.0) };
    let rough = span / wanted.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let first = (low / step + 1e-9).floor() as i64;
    let last = ((high / step - 1e-9).ceil() as i64).max(first + 1);
    (first..=last).map(|index| index as f64 * step).collect()
}

/// A tick's text: `250k`, `1.5M`, `0.25`, `-1500`. `largest` is the axis' largest magnitude, which decides the unit.
pub fn tick_text(value: f64, step: f64, largest: f64) -> String {
    let (scaled, scaled_step, unit) = match largest {
        top if top >= 1e6 => (value / 1e6, step / 1e6, "M"),
        top if top >= 1e4 => (value / 1e3, step / 1e3, "k"),
        _ => (value, step, ""),
    };
    let decimals = (0..=6).find(|d| {
        let shifted = scaled_step * 10_f64.powi(*d);
        (shifted - shifted.round()).abs() < 1e-6 * shifted.abs().max(1e-12)
    });
    let text = format!("{:.*}", decimals.unwrap_or(6) as usize, scaled);
    // With decimals of the step, values like 1.0M read better without the zero.
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    if scaled == 0.0 { "0".to_owned() } else { format!("{text}{unit}") }
}

/// `text` with the characters that XML reserves replaced.
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML 1.0 has no place for control characters, escaped or not.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        out
    })
}

/// Width of `text` at `size`, near enough to lay out a legend.
fn text_width(text: &str, size: f64) -> f64 {
    0.55 * size * text.chars().count() as f64
}

struct Frame {
    left: f64,
    top: f64,
    /// The x axis ends here, not at the tick beyond.
    x_end: f64,
    x_ticks: Vec<f64>,
    y_ticks: Vec<f64>,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        self.left + PANEL_WIDTH * value / self.x_end
    }

    fn y(&self, value: f64) -> f64 {
        let (low, high) = (self.y_ticks[0], self.y_ticks[self.y_ticks.len() - 1]);
        self.top + PANEL_HEIGHT * (high - value) / (high - low)
    }
}

/// The chart as the text of an SVG file.
pub fn render(chart: &Chart) -> String {
    let width =
        LEFT + PANEL_WIDTH * chart.panels.len() as f64 + PANEL_GAP * (chart.panels.len().max(1) - 1) as f64 + RIGHT;
    let (legend, rows) = legend(chart, width - LEFT - RIGHT);
    let top = 62.0 + LEGEND_ROW * rows as f64 + 14.0;
    let height = top + PANEL_HEIGHT + BOTTOM;
    let mut svg = String::new();
    // Writing into a String cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"27\" font-size=\"16\" font-weight=\"bold\" fill=\"#111\">{}</text>\n\
         <text x=\"{LEFT}\" y=\"46\" fill=\"#666\">{}</text>\n{legend}",
        escaped(&chart.title),
        escaped(&chart.subtitle)
    );
    let y_ticks = y_ticks(chart);
    for (index, panel) in chart.panels.iter().enumerate() {
        let largest = panel.series.iter().flat_map(|s| &s.points).map(|p| p.x).fold(0.0, f64::max);
        let x_end = if largest > 0.0 { 1.02 * largest } else { 1.0 };
        let x_ticks = ticks(0.0, x_end, 5).into_iter().filter(|tick| *tick <= x_end).collect();
        let left = LEFT + index as f64 * (PANEL_WIDTH + PANEL_GAP);
        let frame = Frame { left, top, x_end, x_ticks, y_ticks: y_ticks.clone() };
        axes(&mut svg, &frame, &panel.x_label, index == 0);
        for (dash, reference) in chart.references.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#444\" stroke-width=\"1.4\" stroke-dasharray=\"{}\"/>",
                frame.left,
                frame.left + PANEL_WIDTH,
                DASHES[dash % DASHES.len()],
                y = frame.y(reference.y),
            );
        }
        for (number, series) in panel.series.iter().enumerate() {
            band(&mut svg, &frame, series, COLOURS[number % COLOURS.len()]);
        }
        for (number, series) in panel.series.iter().enumerate() {
            line(&mut svg, &frame, series, COLOURS[number % COLOURS.len()]);
        }
        for mark in panel.marks.iter().filter(|mark| mark.x <= x_end) {
            let colour = mark.series.map_or(MARK_COLOUR, |number| COLOURS[number % COLOURS.len()]);
            diamond(&mut svg, frame.x(mark.x), frame.y(mark.y), colour);
        }
    }
    let middle = top + PANEL_HEIGHT / 2.0;
    let _ = writeln!(
        svg,
        "<text transform=\"translate(24 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n</svg>",
        escaped(&chart.y_label)
    );
    svg
}

fn y_ticks(chart: &Chart) -> Vec<f64> {
    let points = chart.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
    let values = points
        .flat_map(|point| [Some(point.y), point.interval.map(|i| i.0), point.interval.map(|i| i.1)])
        .flatten()
        .chain(chart.references.iter().map(|reference| reference.y))
        .chain(chart.panels.iter().flat_map(|panel| &panel.marks).map(|mark| mark.y))
        .filter(|value| value.is_finite());
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return ticks(0.0, 1.0, 5);
    }
    // Room for what lies on the edge; a range that ends at zero stays there.
    let room = 0.03 * (high - low);
    let away_from_zero = |value: f64, room: f64| if value == 0.0 { value } else { value + room };
    ticks(away_from_zero(low, -room), away_from_zero(high, room), 6)
}

fn axes(svg: &mut String, frame: &Frame, x_label: &str, y_texts: bool) {
    let (left, right) = (frame.left, frame.left + PANEL_WIDTH);
    let bottom = frame.top + PANEL_HEIGHT;
    let text_of = |value: f64, ticks: &[f64]| {
        let step = ticks.get(1).map_or(1.0, |second| second - ticks[0]);
        tick_text(value, step, ticks.iter().fold(0.0, |top, tick| tick.abs().max(top)))
    };
    for value in &frame.y_ticks {
        let y = frame.y(*value);
        let _ =
            writeln!(svg, "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#e6e6e6\"/>");
        if y_texts {
            let text = text_of(*value, &frame.y_ticks);
            let _ =
                writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", left - 8.0, y + 4.0);
        }
    }
    for value in &frame.x_ticks {
        let x = frame.x(*value);
        let text = text_of(*value, &frame.x_ticks);
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\" stroke=\"#888\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
            bottom + 5.0,
            bottom + 20.0
        );
    }
    let _ = writeln!(
        svg,
        "<line x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\" stroke=\"#888\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (left + right) / 2.0,
        bottom + 42.0,
        escaped(x_label)
    );
}

fn band(svg: &mut String, frame: &Frame, series: &Series, colour: &str) {
    let ends: Vec<(f64, f64, f64)> = series
        .points
        .iter()
        .filter_map(|p| p.interval.map(|(low, high)| (frame.x(p.x), frame.y(low), frame.y(high))))
        .collect();
    match ends[..] {
        [] => {}
        [(x, low, high)] => {
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\" stroke-width=\"6\" stroke-opacity=\"0.25\"/>"
            );
        }
        _ => {
            let there = ends.iter().map(|(x, _, high)| format!("{x:.1},{high:.1}"));
            let back = ends.iter().rev().map(|(x, low, _)| format!("{x:.1},{low:.1}"));
            let outline = there.chain(back).collect::<Vec<_>>().join(" ");
            let _ = writeln!(svg, "<polygon points=\"{outline}\" fill=\"{colour}\" fill-opacity=\"0.16\"/>");
        }
    }
}

fn line(svg: &mut String, frame: &Frame, series: &Series, colour: &str) {
    let places: Vec<(f64, f64)> =
        series.points.iter().filter(|p| p.y.is_finite()).map(|p| (frame.x(p.x), frame.y(p.y))).collect();
    let path = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        svg,
        "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\" stroke-linecap=\"round\"/>"
    );
    if places.len() <= 25 {
        for (x, y) in places {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.8\" fill=\"{colour}\"/>");
        }
    }
}

fn diamond(svg: &mut String, x: f64, y: f64, colour: &str) {
    let (left, right, top, bottom) = (x - 5.0, x + 5.0, y - 5.0, y + 5.0);
    let _ = writeln!(
        svg,
        "<path d=\"M{left:.1} {y:.1} L{x:.1} {top:.1} L{right:.1} {y:.1} L{x:.1} {bottom:.1} Z\" fill=\"#fff\" stroke=\"{colour}\" stroke-width=\"1.8\"/>"
    );
}

/// The legend below the subtitle, and its number of rows.
fn legend(chart: &Chart, width: f64) -> (String, usize) {
    let series = chart.panels.first().map_or(&[][..], |panel| &panel.series);
    let solid = series.iter().enumerate().map(|(number, s)| (COLOURS[number % COLOURS.len()], None, s.label.as_str()));
    let dashed = chart
        .references
        .iter()
        .enumerate()
        .map(|(number, reference)| ("#444", Some(DASHES[number % DASHES.len()]), reference.label.as_str()));
    let mut svg = String::new();
    let (mut x, mut row) = (0.0, 0);
    for (colour, dash, label) in solid.chain(dashed) {
        let entry = 34.0 + text_width(label, 12.0) + 18.0;
        if x > 0.0 && x + entry > width {
            (x, row) = (0.0, row + 1);
        }
        let (left, y) = (LEFT + x, 68.0 + LEGEND_ROW * f64::from(row));
        let (thickness, dash) =
            dash.map_or((3.0, String::new()), |dash| (1.4, format!(" stroke-dasharray=\"{dash}\"")));
        let _ = writeln!(
            svg,
            "<line x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"{thickness}\"{dash}/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            left + 26.0,
            left + 34.0,
            y + 4.0,
            escaped(label)
        );
        x += entry;
    }
    if let Some(label) = &chart.marks_label {
        if x > 0.0 && x + 34.0 + text_width(label, 12.0) > width {
            (x, row) = (0.0, row + 1);
        }
        let (left, y) = (LEFT + x, 68.0 + LEGEND_ROW * f64::from(row));
        diamond(&mut svg, left + 13.0, y, MARK_COLOUR);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", left + 34.0, y + 4.0, escaped(label));
    }
    (svg, row as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        assert_eq!(ticks(0.0, 200_000.0, 5), [0.0, 50_000.0, 100_000.0, 150_000.0, 200_000.0]);
        assert_eq!(ticks(-1250.0, -130.0, 6), [-1400.0, -1200.0, -1000.0, -800.0, -600.0, -400.0, -200.0, 0.0]);
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(0.0, 3570.0, 6), [0.0, 1000.0, 2000.0, 3000.0, 4000.0]);
        for (low, high) in [(5.0, 5.0), (0.0, 0.0), (-3.0, -3.0), (1e-9, 2e-9), (-1e12, 1e12)] {
            let ticks = ticks(low, high, 5);
            assert!(ticks.len() >= 2 && ticks[0] <= low && ticks[ticks.len() - 1] >= high, "{low} {high}: {ticks:?}");
        }
    }

    #[test]
    fn tick_texts_are_short() {
        assert_eq!(tick_text(0.0, 50_000.0, 2e5), "0");
        assert_eq!(tick_text(50_000.0, 50_000.0, 2e5), "50k");
        assert_eq!(tick_text(5_000.0, 5_000.0, 2e4), "5k");
        assert_eq!(tick_text(1_000_000.0, 250_000.0, 1e6), "1M");
        assert_eq!(tick_text(250_000.0, 250_000.0, 1e6), "0.25M");
        assert_eq!(tick_text(12_500.0, 2_500.0, 12_500.0), "12.5k");
        assert_eq!(tick_text(-1400.0, 200.0, 1400.0), "-1400");
        assert_eq!(tick_text(0.6000000000000001, 0.2, 1.0), "0.6");
    }

    fn chart(label: &str) -> Chart {
        let points = (0..5)
            .map(|i| Point {
                x: f64::from(i),
                y: f64::from(i * i),
                interval: Some((f64::from(i), f64::from(i * i + 4))),
            })
            .collect();
        Chart {
            title: "a < b & c".to_owned(),
            subtitle: "n".to_owned(),
            y_label: "return".to_owned(),
            references: vec![Reference { label: "expert".to_owned(), y: 30.0 }],
            marks_label: Some("published".to_owned()),
            panels: vec![Panel {
                x_label: "steps".to_owned(),
                series: vec![Series { label: label.to_owned(), points }],
                marks: vec![Mark { series: Some(0), x: 2.0, y: 40.0 }, Mark { series: None, x: 50.0, y: 1.0 }],
            }],
        }
    }

    #[test]
    fn text_is_escaped() {
        let svg = render(&chart("\"HyPE\" <1>"));
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("&quot;HyPE&quot; &lt;1&gt;"), "{svg}");
        assert!(!svg.contains("a < b"));
    }

    #[test]
    fn everything_is_inside_the_frame() {
        let svg = render(&chart("x"));
        let polygon = svg.split("<polygon points=\"").nth(1).unwrap().split('"').next().unwrap();
        let places: Vec<(f64, f64)> = polygon
            .split(' ')
            .map(|place| place.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert_eq!(places.len(), 10);
        assert!(
            places.iter().all(|(x, y)| (LEFT..=LEFT + PANEL_WIDTH).contains(x) && (0.0..400.0).contains(y)),
            "{polygon}"
        );
        assert_eq!(svg.matches("<path").count(), 2, "the mark within the axis and its legend entry");
        let dashed = svg.matches("stroke-dasharray").count();
        assert_eq!(dashed, 2, "the line and its legend entry");
        let mut nothing = chart("x");
        nothing.panels[0].series[0].points.clear();
        nothing.references.clear();
        assert!(render(&nothing).ends_with("</svg>\n"), "a chart without points is still a chart");
    }
}
