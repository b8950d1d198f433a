//! Commands to Redis, each on a connection of its own.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use zmsg_testbed::private::PrivateRedis;

const BOUND: Duration = Duration::from_secs(10);

/// Runs a command and gives its answer as text.
///
/// # Errors
/// If the server does not answer in time, or refuses.
pub(super) fn command(server: &PrivateRedis, words: &[&str]) -> Result<String> {
    let shown = || format!("Redis: `{}`", words.join(" "));
    let ask = || -> Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let mut stream = TcpStream::connect_timeout(&address, BOUND)?;
        stream.set_read_timeout(Some(BOUND))?;
        let mut answers = BufReader::new(stream.try_clone()?);
        if let Some(password) = server.password() {
            stream.write_all(&encode(&["AUTH", password]))?;
            answer(&mut answers)?;
        }
        stream.write_all(&encode(words))?;
        answer(&mut answers)
    };
    ask().with_context(shown)
}

/// The number behind a name in the answer to `INFO`; 0 if it is not there.
///
/// # Errors
/// As [`command`].
pub(super) fn info(server: &PrivateRedis, section: &str, name: &str) -> Result<u64> {
    Ok(field(&command(server, &["INFO", section])?, name))
}

fn field(info: &str, name: &str) -> u64 {
    let after = info.split_once(name).map_or("", |(_, rest)| rest);
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn encode(words: &[&str]) -> Vec<u8> {
    let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>()).into_bytes()
}

/// Reads an answer that is no list: no command here gives one.
fn answer(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("$", length)) => {
            let mut bytes = vec![0; length.parse::<usize>().unwrap_or(0)];
            stream.read_exact(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Some(("-", error)) => bail!("{error}"),
        _ => bail!("an answer that was not expected: {line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_encoded_and_its_answer_is_read() {
        assert_eq!(encode(&["PING", "é"]), "*2\r\n$4\r\nPING\r\n$2\r\né\r\n".as_bytes());
        assert_eq!(answer(&mut "+OK\r\n".as_bytes()).unwrap(), "OK");
        assert_eq!(answer(&mut "$4\r\na\r\nb\r\n".as_bytes()).unwrap(), "a\r\nb");
        let refused = answer(&mut "-OOM no memory\r\n".as_bytes()).unwrap_err();
        assert_eq!(refused.to_string(), "OOM no memory");
        assert!(answer(&mut "".as_bytes()).is_err());
    }

    #[test]
    fn a_number_of_the_information_is_found_by_what_stands_before_it() {
        let info = "# Errorstats\r\nerrorstat_OOM:count=12\r\nerrorstat_WRONG:count=3\r\n";
        assert_eq!(field(info, "errorstat_OOM:count="), 12);
        assert_eq!(field(info, "errorstat_READONLY:count="), 0);
    }
}
