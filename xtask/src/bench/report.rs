//! `cargo xtask report`: kept results as a page, a text and charts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::chart::{self, Series, escaped};
use super::figures::{Figure, Unit};
use super::pairs::pairs;
use super::results::Results;
use super::statistics::{Middle, Verdict};
use super::table::middle;
use crate::shell::root;

/// Which results, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name under which the results were kept
    #[arg(long, value_name = "NAME", default_value = "latest")]
    from: String,
}

/// Where the report is, from the root of the repository.
pub(super) const PLACE: &str = "docs/reports";

/// Writes `latest.md`, `latest.html` and a chart for each case.
///
/// # Errors
/// If there are no results, they are of a quick run, or a file cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let results = Results::load(&args.from)?;
    ensure!(!results.quick, "the figures of a quick run mean nothing: measure without --quick");
    let place = root().join(PLACE);
    fs::create_dir_all(&place)?;
    remove_charts(&place)?;
    let charts = charts(&results.figures);
    for chart in &charts {
        write(&place.join(chart.file()), &chart.svg)?;
    }
    write(&place.join("latest.md"), &text(&results, &charts))?;
    write(&place.join("latest.html"), &page(&results, &charts))?;
    println!("{PLACE}/latest.md, latest.html and {} charts", charts.len());
    Ok(())
}

/// Those of an earlier report: their cases may have other names now.
fn remove_charts(place: &Path) -> Result<()> {
    for entry in fs::read_dir(place)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "svg") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

/// A chart of one case.
#[derive(Debug)]
struct Chart {
    target: String,
    case: String,
    svg: String,
}

impl Chart {
    fn title(&self) -> String {
        titled(&self.target, &self.case)
    }

    fn file(&self) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.title().chars().map(letter).collect();
        let parts: Vec<_> = name.split('-').filter(|part| !part.is_empty()).collect();
        format!("{}.svg", parts.join("-"))
    }
}

fn titled(target: &str, case: &str) -> String {
    if case.is_empty() { target.to_owned() } else { format!("{target}: {case}") }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::PerSecond => "per second: more is better",
        Unit::Nanoseconds => "nanoseconds: fewer are better",
        Unit::Percent => "% of what was asked for: more is better",
        Unit::Allocations => "allocations per call: fewer are better",
        Unit::Bytes => "bytes allocated per call: fewer are better",
        Unit::Held => "bytes held: fewer are better",
        Unit::Wrong => "% of the answers that are wrong: fewer are better",
        Unit::Instructions => "instructions per call: fewer are better",
    }
}

/// A chart for every case that has more than one figure, in the order of the figures.
fn charts(figures: &[Figure]) -> Vec<Chart> {
    let mut charts = Vec::<Chart>::new();
    for first in figures {
        let (target, case) = (first.target.clone(), first.case.clone());
        let is_drawn = |it: &Chart| (&it.target, &it.case) == (&target, &case);
        let of_case: Vec<_> =
            figures.iter().filter(|it| (&it.target, &it.case) == (&target, &case)).collect();
        if of_case.len() < 2 || charts.iter().any(is_drawn) {
            continue;
        }
        let (title, unit) = (titled(&target, &case), unit(first.unit));
        let svg = match &first.axis {
            Some(axis) => chart::lines(&title, &axis.name, unit, &series(&of_case)),
            None => chart::bars(&title, unit, &bars(&of_case)),
        };
        charts.push(Chart { target, case, svg });
    }
    charts
}

fn series(figures: &[&Figure]) -> Vec<Series> {
    let mut all = Vec::<Series>::new();
    for figure in figures {
        let (Some(axis), Some(middle)) = (&figure.axis, Middle::of(&figure.samples)) else {
            continue;
        };
        let known = all.iter().position(|series| series.name == figure.who);
        let at = known.unwrap_or_else(|| {
            all.push(Series { name: figure.who.clone(), points: vec![] });
            all.len() - 1
        });
        all[at].points.push((axis.point, middle));
    }
    all
}

fn bars(figures: &[&Figure]) -> Vec<(String, Middle)> {
    let bar = |figure: &&Figure| Some((figure.who.clone(), Middle::of(&figure.samples)?));
    figures.iter().filter_map(bar).collect()
}

/// The cells of the table: target and case, ours, the peer's, the ratio, what may be said.
fn rows(results: &Results) -> Vec<([String; 5], Verdict)> {
    let row = |pair: super::pairs::Pair<'_>| {
        let ratio = pair.ratio;
        let figures = times(ratio);
        let cells = [
            titled(&pair.own.target, &pair.own.title()),
            format!("{} {}", pair.own.who, middle(pair.own)),
            format!("{} {}", pair.peer.who, middle(pair.peer)),
            figures,
            word(Verdict::of(ratio)).to_owned(),
        ];
        (cells, Verdict::of(ratio))
    };
    pairs(&results.figures).into_iter().map(row).collect()
}

/// A ratio with its interval, where there is one.
fn times(Middle { median, low, high, .. }: Middle) -> String {
    if low.is_infinite() {
        return "none beside some".to_owned();
    }
    format!("{median:.2} ({low:.2} to {high:.2})")
}

const HEADS: [&str; 5] = ["what", "zmsg", "peer", "times as good", ""];

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Equal => "equal",
        Verdict::Same => "inside the noise",
        Verdict::TooFew => "too few rounds to tell",
    }
}

const METHOD: &str = "Ratios are of figures of one run: above 1 zmsg is faster, has more hits, or needs less. In brackets is the interval \
    in which the true median is with 95 %, by order statistics; where it holds 1, the difference is inside the \
    noise and none. What is measured in turns is compared round by round.";

/// The report for those who read it in the repository.
fn text(results: &Results, charts: &[Chart]) -> String {
    let mut text = format!(
        "# Measured on {}\n\nMade by `cargo xtask bench` and `cargo xtask report` from commit {}; repeat one \
         line with `cargo xtask bench --only NAME`. {METHOD}\n\n| machine | |\n| --- | --- |\n",
        results.day, results.commit
    );
    for (name, value) in &results.machine {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let _ =
        write!(text, "\n## Beside peers\n\n| {} |\n|{}\n", HEADS.join(" | "), " --- |".repeat(5));
    for (cells, _) in rows(results) {
        let _ = writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    let lone = lone(results);
    if !lone.is_empty() {
        text.push_str("\n## Without a peer\n\n| what | who | |\n| --- | --- | --- |\n");
        for figure in lone {
            let title = titled(&figure.target, &figure.title());
            let _ = writeln!(text, "| {title} | {} | {} |", figure.who, middle(figure));
        }
    }
    if !results.left_out.is_empty() {
        text.push_str("\n## Left out\n\n");
        for left_out in &results.left_out {
            let _ = writeln!(text, "- {}: {}", left_out.left_out, left_out.why.trim());
        }
    }
    text.push_str("\n## Charts\n\n");
    for chart in charts {
        let _ = writeln!(text, "![{}]({})\n", chart.title(), chart.file());
    }
    text.trim_end().to_owned() + "\n"
}

/// Figures that stand beside nobody's.
fn lone(results: &Results) -> Vec<&Figure> {
    let pairs = pairs(&results.figures);
    let is_paired = |figure: &Figure| pairs.iter().any(|it| it.own == figure || it.peer == figure);
    results.figures.iter().filter(|figure| !is_paired(figure)).collect()
}

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --good: #1b7a3a; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --good: #7bd88f; --bad: #ff8a80; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; } .charts { display: grid; gap: 1.5rem; }
@media (min-width: 60rem) { .charts { grid-template-columns: 1fr 1fr; } }
.charts svg { width: 100%; border: 1px solid var(--line); border-radius: .3rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: left; }
td { font-variant-numeric: tabular-nums; }
.better { color: var(--good); } .worse { color: var(--bad); font-weight: 600; }
";

/// The report as a page that needs nothing else.
fn page(results: &Results, charts: &[Chart]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>zmsg: measured</title>\
         <style>{STYLE}</style>\n<h1>zmsg, measured on {}</h1>\n<p>Commit {}. {METHOD}</p>\n<table>",
        results.day,
        escaped(&results.commit)
    );
    for (name, value) in &results.machine {
        let _ = writeln!(page, "<tr><th>{}<td>{}", escaped(name), escaped(value));
    }
    let heads = HEADS.map(|head| format!("<th>{head}")).join("");
    let _ = writeln!(page, "</table>\n<h2>Beside peers</h2><div class=\"wide\"><table><tr>{heads}");
    for (cells, verdict) in rows(results) {
        let is_said = matches!(verdict, Verdict::Better | Verdict::Worse);
        let class = if is_said { word(verdict) } else { "same" };
        let cells = cells.map(|cell| format!("<td>{}", escaped(&cell))).join("");
        let _ = writeln!(page, "<tr class=\"{class}\">{cells}");
    }
    page.push_str("</table></div>\n<h2>Charts</h2><div class=\"charts\">\n");
    charts.iter().for_each(|chart| page.push_str(&chart.svg));
    page.push_str("</div>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Axis, figure};
    use super::*;

    fn results() -> Results {
        let at = |figure: Figure, point| {
            let axis = Some(Axis { name: "writers".into(), point });
            Figure { axis, ..figure }
        };
        let of = |who, value| figure("append", who, Unit::PerSecond, &[value; 7]);
        Results {
            day: "2026-11-30".into(),
            commit: "abc".into(),
            quick: false,
            machine: vec![("CPU".into(), "2 × fast".into())],
            figures: vec![
                at(of("zmsg", 10.0), 1),
                at(of("okaywal", 20.0), 1),
                at(of("zmsg", 40.0), 16),
                at(of("okaywal", 20.0), 16),
                figure("alone", "zmsg", Unit::Nanoseconds, &[5.0; 7]),
            ],
            left_out: vec![],
        }
    }

    #[test]
    fn every_case_with_peers_has_one_chart_and_every_pair_a_line() {
        let results = results();
        let charts = charts(&results.figures);
        assert_eq!(charts.len(), 1);
        assert_eq!(charts[0].file(), "wal-append.svg");
        let text = text(&results, &charts);
        assert!(text.contains("| wal: append, 1 writers | zmsg 10.0/s | okaywal 20.0/s | 0.50"));
        assert!(text.contains("| 2.00 (2.00 to 2.00) | better |"), "{text}");
        assert!(
            text.contains("## Without a peer") && text.contains("| wal: alone | zmsg | 5.0 ns |")
        );
        assert!(text.contains("![wal: append](wal-append.svg)"), "{text}");
    }

    #[test]
    fn the_page_holds_its_charts_and_shows_where_zmsg_is_slower() {
        let results = results();
        let page = page(&results, &charts(&results.figures));
        assert_eq!(page.matches("<svg").count(), 1);
        assert!(page.contains("class=\"worse\"") && page.contains("class=\"better\""), "{page}");
        assert!(
            !page.contains("http://") || page.matches("http://").count() == 1,
            "only a namespace"
        );
    }
}
