//! Charts as SVG that is read in light and in dark, alone or inside of a page.

use std::fmt::Write as _;

use super::statistics::Middle;
use super::table::number;

const WIDTH: f64 = 640.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 34.0;

/// Told apart by people who see colours less well, on white and on black (M. Okabe, K. Ito, Color Universal
/// Design, 2008), each with a mark of its own besides.
const COLOURS: [&str; 6] = ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#8a7500", "#56b4e9"];

const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:13px}\
.grid{stroke:#8884}.end{text-anchor:end}.mid{text-anchor:middle}\
@media (prefers-color-scheme:dark){text{fill:#ddd}}</style>";

/// What one way gave at each point of an axis.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(u64, Middle)>,
}

/// Lines over an axis; both scales are logarithmic, so that equal ratios are equal distances.
pub(super) fn lines(title: &str, axis: &str, unit: &str, series: &[Series]) -> String {
    const HEIGHT: f64 = 320.0;
    let bottom = HEIGHT - 44.0 - 18.0 * series.len().div_ceil(2) as f64;
    let points = || series.iter().flat_map(|series| &series.points);
    let x = Scale::around(points().map(|(at, _)| *at as f64), LEFT + 14.0, WIDTH - RIGHT - 14.0);
    let y = Scale::around(points().flat_map(|(_, it)| [it.low, it.high]), bottom, TOP);
    let mut svg = head(title, HEIGHT);
    for tick in y.ticks() {
        let at = y.place(tick);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(tick),
        );
    }
    let mut ats: Vec<u64> = points().map(|(at, _)| *at).collect();
    ats.sort_unstable();
    ats.dedup();
    for at in ats {
        let place = x.place(at as f64);
        let _ = write!(
            svg,
            "<text class=\"mid\" x=\"{place:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 16.0,
            short(at as f64)
        );
    }
    let _ = write!(
        svg,
        "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text x=\"8\" y=\"{:.1}\">{}</text>",
        WIDTH - RIGHT,
        bottom + 32.0,
        escaped(axis),
        TOP - 2.0,
        escaped(unit),
    );
    for (at, series) in series.iter().enumerate() {
        line(&mut svg, series, COLOURS[at % COLOURS.len()], &x, &y);
        legend(&mut svg, &series.name, at, bottom + 48.0);
    }
    svg + "</svg>\n"
}

fn line(svg: &mut String, series: &Series, colour: &str, x: &Scale, y: &Scale) {
    let place = |(at, middle): &(u64, Middle)| (x.place(*at as f64), y.place(middle.median));
    let path: Vec<String> =
        series.points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = write!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
    for point in &series.points {
        let (at, median) = place(point);
        let [low, high] = [point.1.low, point.1.high].map(|end| y.place(end));
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\" \
             stroke-opacity=\".5\" stroke-width=\"4\"/>\
             <circle cx=\"{at:.1}\" cy=\"{median:.1}\" r=\"3.5\" fill=\"{colour}\">\
             <title>{}: {}</title></circle>",
            escaped(&series.name),
            number(point.1.median),
        );
    }
}

fn legend(svg: &mut String, name: &str, at: usize, top: f64) {
    let (left, top) = (LEFT + 270.0 * (at % 2) as f64, top + 18.0 * (at / 2) as f64);
    let _ = write!(
        svg,
        "<rect x=\"{left:.1}\" y=\"{:.1}\" width=\"12\" height=\"4\" fill=\"{}\"/>\
         <text x=\"{:.1}\" y=\"{top:.1}\">{}</text>",
        top - 6.0,
        COLOURS[at % COLOURS.len()],
        left + 18.0,
        escaped(name),
    );
}

/// One bar for each way, from 0; ours first.
pub(super) fn bars(title: &str, unit: &str, bars: &[(String, Middle)]) -> String {
    const NAMES: f64 = 190.0;
    const EACH: f64 = 26.0;
    let height = TOP + EACH * bars.len() as f64 + 26.0;
    let longest = bars.iter().map(|(_, it)| it.high).fold(f64::MIN_POSITIVE, f64::max);
    let width = |value: f64| value / longest * (WIDTH - NAMES - 100.0);
    let mut svg = head(title, height);
    for (at, (name, middle)) in bars.iter().enumerate() {
        let top = TOP + EACH * at as f64;
        let colour = COLOURS[usize::from(!name.starts_with("zmsg"))];
        let [low, median, high] =
            [middle.low, middle.median, middle.high].map(|value| NAMES + width(value));
        let centre = top + 8.0;
        let _ = write!(
            svg,
            "<text class=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
             <line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{centre:.1}\" y2=\"{centre:.1}\" stroke=\"#888\" \
             stroke-width=\"3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            NAMES - 8.0,
            top + 12.0,
            escaped(name),
            median - NAMES,
            high + 6.0,
            top + 12.0,
            number(middle.median),
        );
    }
    let _ = write!(svg, "<text x=\"{NAMES}\" y=\"{:.1}\">{}</text>", height - 8.0, escaped(unit));
    svg + "</svg>\n"
}

fn head(title: &str, height: f64) -> String {
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
         aria-label=\"{title}\">{STYLE}<text class=\"title\" x=\"8\" y=\"16\">{title}</text>"
    )
}

/// From numbers to places on the page, logarithmically.
#[derive(Debug)]
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// One in which all of these have a place, from one place to another.
    fn around(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let bounds = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        let positive = values.filter(|value| *value > 0.0 && value.is_finite());
        let (low, high) = positive.fold((f64::INFINITY, 0.0), bounds);
        let (low, high) = if low > high { (1.0, 10.0) } else { (low, high) };
        // A single value stands in the middle.
        let (low, high) = if low == high { (low / 2.0, high * 2.0) } else { (low, high) };
        Self { low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln();
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round numbers between both ends: 1, 2 and 5 of each power of ten, or only the powers where that
    /// would be many.
    fn ticks(&self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// A round number with the prefix of its thousands.
fn short(value: f64) -> String {
    let (value, prefix) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let digits = format!("{value:.2}");
    format!("{}{prefix}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Text for XML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn middle(median: f64) -> Middle {
        Middle { median, low: median * 0.9, high: median * 1.1, is_sure: true }
    }

    #[test]
    fn equal_ratios_are_equal_distances() {
        let scale = Scale::around([1.0, 100.0].into_iter(), 0.0, 200.0);
        assert_eq!([1.0, 10.0, 100.0].map(|it| scale.place(it).round()), [0.0, 100.0, 200.0]);
        assert_eq!(scale.ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let single = Scale::around([7.0].into_iter(), 0.0, 200.0);
        assert_eq!(single.place(7.0).round(), 100.0);
        assert_eq!(Scale::around([].into_iter(), 0.0, 1.0).place(0.0), 0.0);
    }

    #[test]
    fn a_line_goes_through_every_point_and_is_named() {
        let points = vec![(1, middle(10.0)), (16, middle(100.0)), (256, middle(1_000.0))];
        let series = [Series { name: "a <b>".into(), points }];
        let svg = lines("t & u", "tasks", "per second", &series);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("a &lt;b&gt;") && svg.contains("t &amp; u"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn bars_begin_at_zero_and_are_as_long_as_they_count() {
        let svg = bars("t", "ns", &[("zmsg".into(), middle(50.0)), ("peer".into(), middle(100.0))]);
        let widths: Vec<f64> = svg
            .split("width=\"")
            .skip(1)
            .filter(|rest| rest.contains("height=\"16\""))
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(widths.len(), 2, "{svg}");
        assert!((widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.5, 256.0, 10_000.0, 2_500_000.0].map(short);
        assert_eq!(shown, ["0.5", "256", "10 k", "2.5 M"]);
    }
}
