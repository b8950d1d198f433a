//! Looks at a log without opening it: what is there, and what is damaged.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use zmsg_core::Result;

use crate::Fs;
use crate::checkpoint::Checkpoint;
use crate::error::failed;
use crate::frame::Head;
use crate::header::Header;
use crate::scan::Segment;
use crate::segment::{segment_name, segment_number};
use crate::walk::Walk;
use crate::window::Window;

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The id of the log, if any segment can be read.
    pub stream: Option<Uuid>,
    /// Everything below was delivered.
    pub delivered_below: u64,
    /// What is wrong with the checkpoint, if it cannot be read.
    pub checkpoint_damage: Option<String>,
    /// The segments, in order.
    pub segments: Vec<SegmentReport>,
}

/// What one segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// The file.
    pub file: PathBuf,
    /// The sequence it begins with, if its header can be read.
    pub first_seq: Option<u64>,
    /// Its last good record.
    pub last_seq: Option<u64>,
    /// Good records.
    pub records: u64,
    /// Bytes at the end that were written and never synced: a crash leaves them, and it is no damage.
    pub torn_bytes: u64,
    /// Places where a record is missing that was synced.
    pub damage: Vec<Damage>,
}

/// A record that was synced and is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Where in the file it should begin.
    pub offset: u64,
    /// Its sequence; those after it may be missing too, up to the next good one.
    pub seq: u64,
    /// What is there instead.
    pub found: String,
}

impl Verified {
    /// Whether the log opens.
    pub fn is_sound(&self) -> bool {
        self.checkpoint_damage.is_none()
            && self.segments.iter().all(|segment| segment.damage.is_empty())
    }

    /// Good records of all segments.
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }
}

/// Reads a log that nobody has open, and changes nothing.
///
/// # Errors
/// `Unavailable` if the files cannot be read. Damage is no error here: it is what is asked for.
pub fn verify(dir: impl AsRef<Path>, fs: &dyn Fs) -> Result<Verified> {
    Survey::of(dir.as_ref(), fs)?.report(fs, |_, _, _, _| Ok(()))
}

/// The segments of a directory, readable or not.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) checkpoint: Result<Option<Checkpoint>>,
    pub(crate) segments: Vec<(PathBuf, Result<Segment>)>,
}

impl Survey {
    pub(crate) fn of(dir: &Path, fs: &dyn Fs) -> Result<Self> {
        let names = fs.list(dir).map_err(|error| failed("could not list the log", dir, error))?;
        let mut numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        let open = |number| {
            let path = dir.join(segment_name(number));
            let segment = Segment::find(fs, path.clone());
            (path, segment)
        };
        let segments = numbers.into_iter().map(open).collect();
        Ok(Self { checkpoint: Checkpoint::read(fs, dir), segments })
    }

    /// Walks through all segments; `found` gets every good record that counts.
    pub(crate) fn report(
        &self,
        fs: &dyn Fs,
        mut found: impl FnMut(&Header, u64, &Head, &Window) -> Result<()>,
    ) -> Result<Verified> {
        let (below, checkpoint_damage) = match &self.checkpoint {
            Ok(checkpoint) => (checkpoint.map_or(0, |checkpoint| checkpoint.below), None),
            Err(error) => (0, Some(error.to_string())),
        };
        let good = || self.segments.iter().filter_map(|(_, segment)| segment.as_ref().ok());
        let mut known = below.saturating_sub(1);
        let mut reports = Vec::with_capacity(self.segments.len());
        for (index, (file, segment)) in self.segments.iter().enumerate() {
            let after = self.segments[index + 1..].iter().find_map(|(_, next)| next.as_ref().ok());
            let upto = after.map(|next| next.header.synced_through);
            let mut report = SegmentReport {
                file: file.clone(),
                first_seq: None,
                last_seq: None,
                records: 0,
                torn_bytes: 0,
                damage: Vec::new(),
            };
            match segment {
                Err(error) => report.damage.push(Damage::new(0, known + 1, error.to_string())),
                Ok(segment) => {
                    let header = &segment.header;
                    if header.synced_through > known {
                        let why = "a segment before this one is missing or damaged".to_owned();
                        report.damage.push(Damage::new(0, known + 1, why));
                    }
                    let walk = segment.walk(
                        &mut segment.window(fs)?,
                        upto.unwrap_or(header.ceiling - 1),
                        |offset, head, window| found(header, offset, head, window),
                    )?;
                    known = known.max(header.synced_through).max(walk.last.unwrap_or(0));
                    report.fill(header, &walk, upto, below);
                }
            }
            reports.push(report);
        }
        Ok(Verified {
            stream: good().next().map(|segment| segment.header.stream),
            delivered_below: below,
            checkpoint_damage,
            segments: reports,
        })
    }
}

impl SegmentReport {
    fn fill(&mut self, header: &Header, walk: &Walk, upto: Option<u64>, below: u64) {
        self.first_seq = Some(header.first_seq);
        (self.last_seq, self.records) = (walk.last, walk.records);
        // Where another segment follows, that one proves what was synced.
        let proof = upto.unwrap_or(walk.proof);
        let synced = walk.holes.iter().filter(|hole| hole.seq <= proof && proof >= below);
        self.damage.extend(
            synced.map(|hole| Damage::new(hole.offset, hole.seq, hole.flaw.text().to_owned())),
        );
        if upto.is_none() && self.damage.is_empty() {
            self.torn_bytes = walk.torn_bytes;
        }
    }
}

impl Damage {
    fn new(offset: u64, seq: u64, found: String) -> Self {
        Self { offset, seq, found }
    }
}
