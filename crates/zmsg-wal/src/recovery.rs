//! What is found in a directory: the chain of segments, its end, and whether that end is honest.
//!
//! Every segment but the last was synced before the next one began, and the next one says up to
//! which sequence; so a record missing there is damage. In the last one a record may be missing
//! because it was never synced: that is the torn tail. It is damage if anything behind it says that
//! it had been synced.

use std::path::Path;

use uuid::Uuid;
use zmsg_core::Result;

use crate::checkpoint::Checkpoint;
use crate::error::{damaged, failed};
use crate::frame::Flaw;
use crate::header::{HEADER, SEQUENCES_END};
use crate::sabotage::Sabotage;
use crate::scan::{Rest, Scan, Segment};
use crate::segment::{UNFINISHED, segment_name, segment_number};
use crate::table::Entry;
use crate::window::Window;
use crate::{Fs, LogOptions};

/// What [`Log::open`](crate::Log::open) found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The id of the log: made once, kept for as long as the directory lives.
    pub stream: Uuid,
    /// Where to begin to deliver: nothing below it is to be; `next` if nothing is.
    pub first: u64,
    /// The last record; 0 if there never was one.
    pub last: u64,
    /// The sequence of the next record. After a crash it is higher than `last + 1`: see the crate.
    pub next: u64,
    /// How many records there are to be delivered.
    pub records: u64,
    /// Everything below was delivered, by the last checkpoint.
    pub delivered_below: u64,
    /// Bytes of records that were written and never synced, and are cut off.
    pub torn_bytes: u64,
    /// Whether the log was closed properly.
    pub closed: bool,
}

/// The state on disk, before anything is changed.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    pub(crate) entries: Vec<Entry>,
    pub(crate) end: Option<Tail>,
    pub(crate) unfinished: Vec<String>,
}

/// The last segment.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Segment,
    pub(crate) scan: Scan,
    /// Everything up to here is known to be synced.
    pub(crate) proven: u64,
}

/// Reads everything, changes nothing.
pub(crate) fn inspect(fs: &dyn Fs, dir: &Path, options: &LogOptions) -> Result<Found> {
    let names = fs.list(dir).map_err(|error| failed("could not list the log", dir, error))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let unfinished = names.into_iter().filter(|name| name.ends_with(UNFINISHED)).collect();
    let checkpoint = Checkpoint::read(fs, dir)?;
    let mut segments = Vec::with_capacity(numbers.len());
    for number in numbers {
        segments.push(Segment::find(fs, dir.join(segment_name(number)))?);
    }
    let below = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.below);
    let mut unfinished: Vec<String> = unfinished;
    unfinished.extend(delivered(&mut segments, below));
    check_chain(&segments, checkpoint.as_ref(), dir)?;
    Recovery { fs, options, below, entries: Vec::new(), records: 0 }.run(segments, unfinished)
}

struct Recovery<'a> {
    fs: &'a dyn Fs,
    options: &'a LogOptions,
    below: u64,
    entries: Vec<Entry>,
    records: u64,
}

impl Recovery<'_> {
    fn run(mut self, mut segments: Vec<Segment>, unfinished: Vec<String>) -> Result<Found> {
        let Some(last) = segments.pop() else { return Ok(empty(unfinished)) };
        for (index, segment) in segments.iter().enumerate() {
            let next = segments.get(index + 1).unwrap_or(&last);
            self.middle(segment, next.header.synced_through)?;
        }
        let (tail, rest) = self.last(last)?;
        let header = &tail.segment.header;
        self.entries.push(Entry::new(*header, tail.scan.end));
        let mut next = tail.scan.last + 1;
        if !rest.closed && !self.options.sabotaged(Sabotage::ReuseSequence) {
            // What was given out and lost must not be given to another record.
            next = next.max(header.ceiling);
        } else {
            next = next.max(header.first_seq);
        }
        if self.below > next {
            let (why, seq) = ("a segment after this one is missing", self.below);
            return Err(damaged(why, &tail.segment.path, tail.scan.end, seq));
        }
        if next >= SEQUENCES_END || header.number >= SEQUENCES_END {
            let why = "it counts further than any log can have come";
            return Err(damaged(why, &tail.segment.path, 0, next));
        }
        let first = self.entries.first().map_or(1, |entry| entry.header.first_seq);
        let first = if self.records == 0 { next } else { first.max(self.below) };
        let recovered = Recovered {
            stream: header.stream,
            first,
            last: tail.scan.last,
            next,
            records: self.records,
            delivered_below: self.below,
            torn_bytes: rest.torn_end - tail.scan.end,
            closed: rest.closed,
        };
        Ok(Found { recovered, entries: self.entries, end: Some(tail), unfinished })
    }

    /// A segment that another one follows holds everything up to `upto`.
    fn middle(&mut self, segment: &Segment, upto: u64) -> Result<()> {
        let header = segment.header;
        // Delivered, or all of it was written anew elsewhere: nobody will read it.
        if upto < self.below || upto < header.first_seq {
            self.entries.push(Entry::new(header, segment.size.max(HEADER as u64)));
            return Ok(());
        }
        let scan = self.scan(segment, upto)?;
        if let Some(flaw) = scan.flaw
            && !self.options.sabotaged(Sabotage::IgnoreProof)
        {
            let missing = scan.last.max(header.first_seq - 1) + 1;
            return Err(damaged(flaw.text(), &segment.path, scan.end, missing));
        }
        self.entries.push(Entry::new(header, scan.end));
        Ok(())
    }

    fn last(&mut self, segment: Segment) -> Result<(Tail, Rest)> {
        let scan = self.scan(&segment, u64::MAX - 1)?;
        let mut window = self.window(&segment)?;
        let rest = segment.rest(&mut window, &scan)?;
        let known = scan.last.max(segment.header.first_seq - 1);
        if rest.synced_through > known && !self.options.sabotaged(Sabotage::IgnoreProof) {
            let why = scan.flaw.unwrap_or(Flaw::Blank).text();
            return Err(damaged(why, &segment.path, scan.end, known + 1));
        }
        let proven = scan.synced_through.max(rest.synced_through).min(scan.last);
        Ok((Tail { segment, scan, proven }, rest))
    }

    fn scan(&mut self, segment: &Segment, upto: u64) -> Result<Scan> {
        let mut window = self.window(segment)?;
        let (below, mut records) = (self.below, 0);
        let scan = segment.scan(&mut window, upto, |_, head, _| {
            records += u64::from(head.seq >= below);
            Ok(())
        })?;
        self.records += records;
        Ok(scan)
    }

    fn window(&self, segment: &Segment) -> Result<Window> {
        let window = segment.window(self.fs)?;
        Ok(window.believing_all(self.options.sabotaged(Sabotage::IgnoreCrc)))
    }
}

fn empty(unfinished: Vec<String>) -> Found {
    let recovered = Recovered {
        stream: Uuid::new_v4(),
        first: 1,
        last: 0,
        next: 1,
        records: 0,
        delivered_below: 0,
        torn_bytes: 0,
        closed: true,
    };
    Found { recovered, entries: Vec::new(), end: None, unfinished }
}

/// Takes out the segments of which everything was delivered, and gives their names: a removal that
/// failed half way left them, maybe with a gap behind them.
fn delivered(segments: &mut Vec<Segment>, below: u64) -> Vec<String> {
    let begins = segments
        .iter()
        .rposition(|segment| segment.header.number > 1 && segment.header.synced_through < below);
    let of = |segment: Segment| segment_name(segment.header.number);
    segments.drain(..begins.unwrap_or(0)).map(of).collect()
}

/// The segments are one log without a gap, and begin where the checkpoint allows.
fn check_chain(segments: &[Segment], checkpoint: Option<&Checkpoint>, dir: &Path) -> Result<()> {
    let Some(first) = segments.first() else {
        let why = "there is a checkpoint and no segment";
        return match checkpoint {
            Some(checkpoint) => Err(damaged(why, dir, 0, checkpoint.below)),
            None => Ok(()),
        };
    };
    let broken = |why, segment: &Segment, seq| Err(damaged(why, &segment.path, 0, seq));
    if checkpoint.is_some_and(|checkpoint| checkpoint.stream != first.header.stream) {
        return broken("the checkpoint is of another log", first, 0);
    }
    let below = checkpoint.map_or(1, |checkpoint| checkpoint.below.max(1));
    if first.header.synced_through >= below {
        return broken("a segment before this one is missing", first, below);
    }
    for segment in segments {
        let name = segment.path.file_name().and_then(|name| name.to_str());
        if name.and_then(segment_number) != Some(segment.header.number) {
            return broken("the segment has the name of another one", segment, 0);
        }
    }
    for pair in segments.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        if next.header.stream != one.header.stream {
            return broken("the segment is of another log", next, 0);
        }
        if next.header.number != one.header.number + 1 {
            return broken("a segment before this one is missing", next, one.header.first_seq);
        }
        if next.header.synced_through < one.header.synced_through {
            return broken("the segment contradicts the one before it", next, 0);
        }
    }
    Ok(())
}
