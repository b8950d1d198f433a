//! `cargo xtask analyse`: what the figures mean for who chooses between zmsg and something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::pairs::{Pair, pairs};
use super::report::PLACE;
use super::results::Results;
use super::statistics::{Middle, Verdict};
use super::table;
use crate::shell::root;

/// Which results.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name under which the results were kept
    #[arg(long, value_name = "NAME", default_value = "latest")]
    from: String,
}

/// What no figure says: where something else serves better, and where zmsg does.
const ELSEWHERE: [(&str, &str); 6] = [
    (
        "Values that one process computes and may lose",
        "take a cache alone (`quick_cache`, `moka`): no store, no directory, no upkeep, and less to learn.",
    ),
    (
        "Rows that are read once, or always by other columns than their key",
        "take the driver: caches in front only cost there.",
    ),
    (
        "Each write must be in the database when its call returns",
        "use the store route only: then zmsg is a cache in which no read of this node is older than its last write, and its \
         other routes are nothing to you.",
    ),
    (
        "Streams that many systems read again and again, at rates beyond one database",
        "take Kafka; a batch queue of zmsg carries what one process hands on.",
    ),
    (
        "Jobs in Go and nothing else",
        "take asynq itself. zmsg shares its queues, and fences what asynq does not.",
    ),
    (
        "Counters, feeds and messages in a database that their writes would overload",
        "take zmsg: many operations become one statement, and each is counted once.",
    ),
];

/// Writes `analysis.md` beside the report, and shows it.
///
/// # Errors
/// If there are no results, they are of a quick run, or the file cannot be written.
pub(crate) fn run(args: &Args) -> Result<()> {
    let results = Results::load(&args.from)?;
    ensure!(!results.quick, "the figures of a quick run mean nothing: measure without --quick");
    let (text, place) = (text(&results), root().join(PLACE));
    fs::create_dir_all(&place)?;
    let path = place.join("analysis.md");
    fs::write(&path, &text).with_context(|| format!("could not write {}", path.display()))?;
    print!("{text}");
    Ok(())
}

fn text(results: &Results) -> String {
    let pairs = pairs(&results.figures);
    let of = |verdict| pairs.iter().filter(move |pair| Verdict::of(pair.ratio) == verdict);
    let mut text = format!(
        "# What to choose\n\nMade by `cargo xtask analyse` from what was measured on {} at commit {}. Ratios are of \
         one machine and one run: above 1 zmsg is faster, has more hits, or needs less.\n",
        results.day, results.commit
    );
    text.push_str("\n## Where zmsg is not the better choice\n\n");
    let mut worse: Vec<_> = of(Verdict::Worse).collect();
    worse.sort_by(|one, other| one.ratio.median.total_cmp(&other.ratio.median));
    if worse.is_empty() {
        text.push_str("No peer was ahead in anything that was measured often enough to tell.\n");
    }
    for pair in worse {
        let _ = writeln!(text, "- {}", line(pair));
    }
    text.push_str("\n## Beside each peer\n\n| peer | zmsg ahead | no difference | peer ahead | too few rounds | geometric mean |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for (peer, of_peer) in by_peer(&pairs) {
        let count = |of: &[Verdict]| {
            of_peer.iter().filter(|it| of.contains(&Verdict::of(it.ratio))).count()
        };
        let counts = [
            count(&[Verdict::Better]),
            count(&[Verdict::Same, Verdict::Equal]),
            count(&[Verdict::Worse]),
            count(&[Verdict::TooFew]),
        ];
        let cells = counts.map(|count| count.to_string()).join(" | ");
        let _ = writeln!(text, "| {peer} | {cells} | {} |", middle(&of_peer));
    }
    text.push_str("\n## Where zmsg is furthest ahead\n\n");
    let mut better: Vec<_> = of(Verdict::Better).collect();
    better.sort_by(|one, other| other.ratio.median.total_cmp(&one.ratio.median));
    for pair in better.into_iter().take(10) {
        let _ = writeln!(text, "- {}", line(pair));
    }
    if !results.left_out.is_empty() {
        text.push_str("\n## Left out\n\n");
    }
    for left_out in &results.left_out {
        let _ = writeln!(text, "- {}: {}", left_out.left_out, left_out.why.trim());
    }
    text.push_str("\n## What no figure says\n\n");
    for (need, advice) in ELSEWHERE {
        let _ = writeln!(text, "- **{need}**: {advice}");
    }
    text
}

fn line(pair: &Pair<'_>) -> String {
    let title = format!("{}: {}", pair.own.target, pair.own.title());
    let (own, peer, Middle { median, low, high, .. }) = (&pair.own.who, &pair.peer.who, pair.ratio);
    if low.is_infinite() || high == 0.0 {
        // No number of times says how much more some is than none.
        let [own_count, peer_count] = [pair.own, pair.peer].map(table::middle);
        return format!("{title}: {own} {own_count}, {peer} {peer_count}");
    }
    format!("{title}: {own} {median:.2} times {peer} ({low:.2} to {high:.2})")
}

fn by_peer<'a>(pairs: &'a [Pair<'a>]) -> BTreeMap<&'a str, Vec<&'a Pair<'a>>> {
    let mut peers = BTreeMap::<_, Vec<_>>::new();
    for pair in pairs {
        peers.entry(pair.peer.who.as_str()).or_default().push(pair);
    }
    peers
}

/// The geometric mean of those that were measured often enough: half as fast here and twice as fast there is
/// as fast. None beside some has no share in it: it would be all of it.
fn middle(pairs: &[&Pair<'_>]) -> String {
    let is_sure = |pair: &&&Pair<'_>| Verdict::of(pair.ratio) != Verdict::TooFew;
    let logs = pairs.iter().filter(is_sure).map(|pair| pair.ratio.median.ln());
    let logs: Vec<f64> = logs.filter(|log| log.is_finite()).collect();
    if logs.is_empty() {
        return "–".to_owned();
    }
    format!("{:.2}", (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Figure, Unit, figure};
    use super::*;

    fn results(figures: Vec<Figure>) -> Results {
        let (day, commit) = ("2026-11-30".into(), "abc".into());
        Results { day, commit, quick: false, machine: vec![], figures, left_out: vec![] }
    }

    #[test]
    fn what_a_peer_does_better_is_named_first_and_what_is_inside_the_noise_is_no_win() {
        let of = |case, who, value| figure(case, who, Unit::PerSecond, &[value; 7]);
        let noisy: Vec<f64> = (0..7).map(|n| 9.0 + f64::from(n)).collect();
        let results = results(vec![
            of("append", "zmsg", 10.0),
            of("append", "okaywal", 40.0),
            of("replay", "zmsg", 40.0),
            of("replay", "okaywal", 10.0),
            of("sync", "zmsg", 12.0),
            figure("sync", "okaywal", Unit::PerSecond, &noisy),
        ]);
        let text = text(&results);
        let (bad, good) = text.split_once("## Beside each peer").unwrap();
        assert!(
            bad.contains("append: zmsg 0.25 times okaywal") && !bad.contains("replay"),
            "{text}"
        );
        assert!(good.contains("| okaywal | 1 | 1 | 1 | 0 | 1.0"), "{text}");
        assert!(good.contains("replay: zmsg 4.00 times okaywal"), "{text}");
    }

    #[test]
    fn none_beside_some_is_said_in_counts_and_left_out_of_the_mean() {
        let of = |case, who, count| figure(case, who, Unit::Allocations, &[count; 7]);
        let results = results(vec![
            of("get", "zmsg", 0.0),
            of("get", "moka", 2.0),
            of("set", "zmsg", 3.0),
            of("set", "moka", 0.0),
            of("del", "zmsg", 0.0),
            of("del", "moka", 0.0),
        ]);
        let text = text(&results);
        assert!(text.contains("set: zmsg 3 allocations, moka 0 allocations"), "{text}");
        assert!(text.contains("get: zmsg 0 allocations, moka 2 allocations"), "{text}");
        assert!(text.contains("| moka | 1 | 1 | 1 | 0 | 1.00 |"), "{text}");
        assert!(!text.contains("inf") && !text.contains("NaN"), "{text}");
    }
}
