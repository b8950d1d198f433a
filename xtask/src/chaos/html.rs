//! The report as a page that needs nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::report::{COLUMNS, Report};
use super::state::{Counts, Hits};

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8884; --good: #2a7f3f; --bad: #c62828; --bar: #4a7fb5; }
@media (prefers-color-scheme: dark) { :root { --good: #7bd88f; --bad: #ff8a80; --bar: #7fb2e5; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.sums { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.2rem 0; }
.sums b { display: block; font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child, td.text { text-align: left; }
td { font-variant-numeric: tabular-nums; } code, pre { font-size: .88rem; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid var(--line); border-radius: .3rem; }
.bar { display: inline-block; height: .6rem; background: var(--bar); vertical-align: middle; }
";

/// The page.
pub(super) fn page(report: &Report<'_>) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">");
    page.push_str(
        "<meta name=\"viewport\" content=\"width=device-width\"><title>zmsg: kills</title>",
    );
    let _ =
        write!(page, "<style>{STYLE}</style>\n<h1>zmsg: processes killed while they write</h1>");
    summary(&mut page, report);
    failures(&mut page, report);
    page.push_str("<h2>By database and route</h2>");
    table(&mut page, "", report.by_route().iter().map(|(name, it)| (name.clone(), *it)));
    points(&mut page, &report.state.points, &report.missed);
    page.push_str("<h2>By database, route, and where the process was killed</h2>");
    let cells = report.state.cells.iter();
    table(&mut page, "", cells.map(|(name, it)| (name.replace('|', ", "), *it)));
    page.push_str("</html>\n");
    page
}

fn summary(page: &mut String, report: &Report<'_>) {
    let Counts { submitted, acknowledged, lost, doubled, .. } = report.state.total();
    page.push_str("<div class=\"sums\">");
    for (name, number, class) in [
        ("kills", report.state.kills(), ""),
        ("writes", submitted, ""),
        ("acknowledged", acknowledged, ""),
        ("lost", lost, if lost == 0 { "good" } else { "bad" }),
        ("doubled", doubled, if doubled == 0 { "good" } else { "bad" }),
    ] {
        let _ = write!(page, "<div><b class=\"{class}\">{number}</b>{name}</div>");
    }
    page.push_str("</div>");
    let kills = report.state.kills.iter().map(|(store, kills)| format!("{kills} on {store}"));
    let _ = write!(
        page,
        "<p>{} runs in {:.0} s; {}. {}.</p><pre>{}</pre>\
         <p>A write is <i>unknown</i> if its process was killed before it was answered: it may have \
         taken effect once or not at all.</p>",
        report.state.runs,
        report.took().as_secs_f64(),
        kills.collect::<Vec<_>>().join(", "),
        escaped(&report.machine),
        escaped(&report.command),
    );
}

fn failures(page: &mut String, report: &Report<'_>) {
    if report.state.failures.is_empty() {
        page.push_str("<p class=\"good\">Every run was as it should be.</p>");
        return;
    }
    page.push_str("<h2 class=\"bad\">Runs that were not as they should be</h2>");
    for failure in &report.state.failures {
        let again = report.command.replace("--runs", "--only-run");
        let again = again.rsplit_once(' ').map_or("", |(command, _)| command);
        let problems = failure.problems.join("\n");
        let run = failure.run;
        let _ = write!(page, "<pre>{} {run}\n{}</pre>", escaped(again), escaped(&problems));
    }
}

fn points(page: &mut String, points: &BTreeMap<String, Hits>, missed: &[String]) {
    page.push_str("<h2>Failpoints</h2><div class=\"wide\"><table><tr><th>failpoint</th>");
    page.push_str("<th>kills planned</th><th>reached</th><th></th></tr>");
    let most = points.values().map(|hits| hits.reached).max().unwrap_or(1).max(1);
    for (name, Hits { planned, reached }) in points {
        let width = reached * 160 / most;
        let class = if *reached == 0 { "bad" } else { "" };
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td>{planned}</td><td class=\"{class}\">{reached}</td>\
             <td class=\"text\"><span class=\"bar\" style=\"width:{width}px\"></span></td></tr>",
            escaped(name)
        );
    }
    page.push_str("</table></div>");
    if !missed.is_empty() {
        let _ = write!(page, "<p>Never reached: <code>{}</code></p>", escaped(&missed.join(", ")));
    }
}

fn table(page: &mut String, title: &str, rows: impl Iterator<Item = (String, Counts)>) {
    let _ = write!(page, "<div class=\"wide\"><table><tr><th>{title}</th>");
    COLUMNS.iter().for_each(|name| {
        let _ = write!(page, "<th>{name}</th>");
    });
    page.push_str("</tr>");
    for (name, counts) in rows {
        let _ = write!(page, "<tr><td>{}</td>", escaped(&name));
        for (column, number) in COLUMNS.iter().zip(counts.columns()) {
            let bad = matches!(*column, "lost" | "doubled") && number > 0;
            let class = if bad { "bad" } else { "" };
            let _ = write!(page, "<td class=\"{class}\">{number}</td>");
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::state::{Failure, State};
    use super::*;

    #[test]
    fn the_page_tells_what_failed_and_how_to_repeat_it_and_lets_no_text_become_markup() {
        let mut state = State::new(3);
        state.runs = 9;
        let counts = Counts { submitted: 4, lost: 2, ..Counts::default() };
        state.cells.insert("sqlite|store|a random moment".to_owned(), counts);
        state.failures.push(Failure { run: 5, problems: vec!["<script>".to_owned()] });
        let report = Report {
            state: &state,
            command: "cargo xtask chaos --seed 3 --store both --runs 9".to_owned(),
            machine: "2 cores".to_owned(),
            missed: vec!["zmsg::x::y".to_owned()],
        };
        let page = page(&report);
        assert!(page.contains("--store both --only-run 5") && page.contains("&lt;script&gt;"));
        assert!(page.contains("sqlite, store, a random moment") && !page.contains("<script>"));
        assert!(page.contains("zmsg::x::y") && page.contains("class=\"bad\">2<"));
    }
}
