//! The stream of messages: read from a file, or made by a seeded generator.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::args::Args;
use crate::zipf::Zipf;

/// One message of the stream.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Message {
    pub(crate) src: u32,
    pub(crate) dst: u32,
    #[serde(rename = "ts")]
    pub(crate) sent_at: i64,
    pub(crate) body: Option<String>,
}

/// The whole stream, and what was wrong with its lines.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) messages: Vec<Message>,
    pub(crate) malformed: u64,
}

const GENERATED: usize = 20_000;
/// Malformed lines that are shown; the rest are counted.
const SHOWN: u64 = 10;

impl Message {
    /// The conversation: both directions of a pair are one.
    pub(crate) fn conversation(&self) -> String {
        format!("conv_{}_{}", self.src.min(self.dst), self.src.max(self.dst))
    }
}

impl Stream {
    pub(crate) fn users(&self) -> usize {
        self.messages.iter().flat_map(|m| [m.src, m.dst]).collect::<HashSet<_>>().len()
    }

    pub(crate) fn directed_pairs(&self) -> usize {
        self.messages.iter().map(|m| (m.src, m.dst)).collect::<HashSet<_>>().len()
    }
}

pub(crate) fn read(args: &Args) -> Result<Stream> {
    match &args.input {
        Some(path) => read_file(path, args),
        None => Ok(generate(args)),
    }
}

fn read_file(path: &Path, args: &Args) -> Result<Stream> {
    let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let mut stream = Stream::default();
    for (index, line) in BufReader::new(file).split(b'\n').enumerate() {
        if args.messages.is_some_and(|most| stream.messages.len() >= most) {
            break;
        }
        let line = line.with_context(|| format!("could not read {}", path.display()))?;
        match parse(&line) {
            Ok(None) => {}
            Ok(Some(message)) => stream.messages.push(message),
            Err(reason) if args.strict => bail!("{}:{}: {reason}", path.display(), index + 1),
            Err(reason) => {
                stream.malformed += 1;
                if stream.malformed <= SHOWN {
                    eprintln!("{}:{}: skipped: {reason}", path.display(), index + 1);
                }
            }
        }
    }
    if stream.malformed > SHOWN {
        eprintln!("{} malformed lines in all", stream.malformed);
    }
    Ok(stream)
}

/// One line: JSON if it begins like it, else three numbers. An empty line is no message.
fn parse(line: &[u8]) -> Result<Option<Message>, String> {
    let line = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('{') {
        return serde_json::from_str(line).map(Some).map_err(|error| error.to_string());
    }
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [src, dst, ts] = fields[..] else {
        return Err(format!("expected SRC DST UNIXTS, found {} fields", fields.len()));
    };
    let number = |name: &str, text: &str| format!("{name} is not a number: {:?}", shorten(text));
    Ok(Some(Message {
        src: src.parse().map_err(|_| number("SRC", src))?,
        dst: dst.parse().map_err(|_| number("DST", dst))?,
        sent_at: ts.parse().map_err(|_| number("UNIXTS", ts))?,
        body: None,
    }))
}

fn shorten(text: &str) -> String {
    text.chars().take(32).collect()
}

/// A stream in which few users send much, as in real ones.
fn generate(args: &Args) -> Stream {
    let mut random = fastrand::Rng::with_seed(args.seed);
    let users = args.users.max(2);
    let zipf = Zipf::new(users as usize, 0.8);
    let user = |random: &mut fastrand::Rng| u32::try_from(zipf.rank(random)).unwrap_or(0) + 1;
    let mut messages = Vec::new();
    for index in 0..args.messages.unwrap_or(GENERATED) {
        let src = user(&mut random);
        let other = user(&mut random);
        let dst = if other == src { src % users + 1 } else { other };
        let sent_at = 1_700_000_000 + i64::try_from(index).unwrap_or(0);
        messages.push(Message { src, dst, sent_at, body: None });
    }
    Stream { messages, malformed: 0 }
}
