//! The layers of a configuration: defaults, file, environment.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde_json::{Map, Value as Json};
use zmsg_core::{Error, Result};

use super::settings::{SETTINGS, SOURCE_KEYS};
use super::{Config, Problems, SourceConfig, parse::Parse, validate};

const ENV_PREFIX: &str = "ZMSG__";

/// Where a value was found, for messages.
enum Origin<'a> {
    File(&'a Path),
    Variable(String),
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Variable(name) => write!(f, "from the variable {name}"),
        }
    }
}

impl Config {
    /// The layers in order; what comes later wins.
    pub(super) fn from_layers(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let mut config = Self::default();
        let mut problems = Problems::default();
        if let Some(path) = file {
            let tree = read_file(path)?;
            apply_tree(&mut config, &tree, "", &Origin::File(path), &mut problems);
        }
        for (name, value) in variables {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else { continue };
            let path = rest.to_lowercase().replace("__", ".");
            let origin = Origin::Variable(name.to_owned());
            apply_leaf(&mut config, &path, &Json::String(value.to_owned()), &origin, &mut problems);
        }
        validate::check(&config, &mut problems);
        problems.into_result()?;
        Ok(config)
    }
}

/// Parses YAML or TOML, told apart by the file's ending.
fn read_file(path: &Path) -> Result<Map<String, Json>> {
    // The parser's own words may quote the line, and the line may hold a password.
    let invalid = |cause: config::ConfigError| {
        Error::invalid_config("the configuration file is not valid YAML or TOML")
            .with_context("file", path.display())
            .with_context("at", position(&cause.to_string()))
    };
    if !path.is_file() {
        return Err(Error::invalid_config("there is no such configuration file")
            .with_context("file", path.display()));
    }
    if !path.extension().is_some_and(|ending| ["yaml", "yml", "toml"].iter().any(|e| ending == *e))
    {
        return Err(Error::invalid_config(
            "a file's ending tells its format: .yaml, .yml or .toml",
        )
        .with_context("file", path.display()));
    }
    let parsed = config::Config::builder().add_source(config::File::from(path)).build();
    let tree: Json = parsed.and_then(config::Config::try_deserialize).map_err(invalid)?;
    match tree {
        Json::Object(tree) => Ok(tree),
        _ => Ok(Map::new()),
    }
}

/// Where a parser stopped, from its message: `line 3, column 7`.
fn position(message: &str) -> String {
    let after = |name: &str| {
        let rest = message.split(name).nth(1)?;
        let number: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        (!number.is_empty()).then_some(number)
    };
    match (after("line "), after("column ")) {
        (Some(line), Some(column)) => format!("line {line}, column {column}"),
        (Some(line), None) => format!("line {line}"),
        _ => "an unknown place".to_owned(),
    }
}

/// Walks a tree down to its leaves.
fn apply_tree(
    config: &mut Config,
    tree: &Map<String, Json>,
    above: &str,
    origin: &Origin<'_>,
    problems: &mut Problems,
) {
    for (name, value) in tree {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value {
            Json::Object(inner) if !SETTINGS.iter().any(|s| s.path == path) => {
                apply_tree(config, inner, &path, origin, problems);
            }
            leaf => apply_leaf(config, &path, leaf, origin, problems),
        }
    }
}

/// Sets one key, or says why not.
fn apply_leaf(
    config: &mut Config,
    path: &str,
    value: &Json,
    origin: &Origin<'_>,
    problems: &mut Problems,
) {
    if let Some(rest) = path.strip_prefix("sources.") {
        return apply_source(config, path, rest, value, origin, problems);
    }
    let Some(setting) = SETTINGS.iter().find(|setting| setting.path == path) else {
        let section = format!("{path}.");
        if path == "sources" || SETTINGS.iter().any(|known| known.path.starts_with(&section)) {
            return problems.add(format!("{path} ({origin}): expected a section with keys in it"));
        }
        let hint = nearest(path).map_or(String::new(), |near| format!("; did you mean {near}?"));
        return problems.add(format!("unknown key {path} ({origin}){hint}"));
    };
    if let Err(problem) = (setting.set)(config, value) {
        problems.add(format!("{path} ({origin}): {problem}"));
    }
}

fn apply_source(
    config: &mut Config,
    path: &str,
    rest: &str,
    value: &Json,
    origin: &Origin<'_>,
    problems: &mut Problems,
) {
    let Some((prefix, key)) = rest.rsplit_once('.').filter(|(_, key)| SOURCE_KEYS.contains(key))
    else {
        return problems.add(format!(
            "unknown key {path} ({origin}); a source has {}",
            SOURCE_KEYS.join(", ")
        ));
    };
    let index = config.sources.iter().position(|source| source.prefix == prefix);
    let index = index.unwrap_or_else(|| {
        config.sources.push(SourceConfig { prefix: prefix.to_owned(), ..Default::default() });
        config.sources.len() - 1
    });
    let source = &mut config.sources[index];
    let set = match key {
        "sql" => String::parse(value).map(|sql| source.sql = sql),
        "keys" => String::parse(value).map(|sql| source.keys = Some(sql)),
        _ => Parse::parse(value).map(|ttl| source.ttl = Some(ttl)),
    };
    if let Err(problem) = set {
        problems.add(format!("{path} ({origin}): {problem}"));
    }
}

/// The known key nearest to a mistyped one, if it is near: by its whole path, or by its last
/// part where only the section is wrong.
fn nearest(path: &str) -> Option<&'static str> {
    let known = || SETTINGS.iter().map(|setting| setting.path);
    let last = path.rsplit('.').next().unwrap_or(path);
    let by_distance = known().min_by_key(|known| strsim::damerau_levenshtein(known, path));
    by_distance
        .filter(|known| strsim::damerau_levenshtein(known, path) <= known.len() / 3)
        .or_else(|| known().find(|known| known.rsplit('.').next() == Some(last)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(k, v)| (OsString::from(k), OsString::from(v)));
        Config::from_layers(Some(&path), variables)
    }

    #[test]
    fn a_later_layer_wins() {
        let yaml =
            "cache:\n  ttl: 5m\n  local:\n    bytes_max: 1MiB\nperiodic: { interval: 250ms }";
        let config =
            load("zmsg.yaml", yaml, &[("ZMSG__CACHE__TTL", "7m"), ("UNRELATED", "x")]).unwrap();
        assert_eq!(config.cache.ttl, Duration::from_secs(420));
        assert_eq!(config.cache.local_bytes_max.0, 1 << 20);
        assert_eq!(config.periodic.interval, Duration::from_millis(250));
        assert_eq!(config.queue, super::super::QueueConfig::default());
    }

    #[test]
    fn toml_is_read_as_well_and_sources_keep_their_prefix() {
        let toml = "[sources.feed]\nsql = \"SELECT data FROM feeds WHERE id = ?\"\nkeys = \"SELECT id FROM feeds\"\nttl = \"1m\"";
        let config = load("zmsg.toml", toml, &[]).unwrap();
        assert_eq!(config.sources.len(), 1);
        assert_eq!(config.sources[0].prefix, "feed");
        assert_eq!(config.sources[0].ttl, Some(Duration::from_secs(60)));
    }

    #[test]
    fn all_problems_come_in_one_answer_with_origin_and_suggestion() {
        let yaml = "cache:\n  tll: 5m\n  jitter: soon\nqueue:\n  fallback_to_sync: true\n";
        let error = load("zmsg.yaml", yaml, &[("ZMSG__STORE__READERS", "many")]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("4 problems"), "{text}");
        assert!(
            text.contains("unknown key cache.tll") && text.contains("did you mean cache.ttl?"),
            "{text}"
        );
        assert!(text.contains("cache.jitter") && text.contains("zmsg.yaml"), "{text}");
        assert!(text.contains("queue.fallback_to_sync"), "{text}");
        assert!(text.contains("store.readers (from the variable ZMSG__STORE__READERS)"), "{text}");
    }

    #[test]
    fn a_section_that_is_no_section_is_not_called_unknown() {
        let text = load("zmsg.yaml", "store: x\nsources: [a]\n", &[]).unwrap_err().to_string();
        assert!(!text.contains("unknown") && text.contains("store (in"), "{text}");
    }

    #[test]
    fn a_source_that_cannot_work_is_found_while_loading() {
        let yaml =
            "sources:\n  feed_: { sql: \"SELECT 1 WHERE 1 = ?\" }\n  user: { sql: \"SELECT 1\" }\n";
        let text = load("zmsg.yaml", yaml, &[]).unwrap_err().to_string();
        assert!(text.contains("sources.feed_") && text.contains("sources.user"), "{text}");
    }

    #[test]
    fn a_broken_file_is_named() {
        assert!(load("zmsg.toml", "= nothing", &[]).unwrap_err().to_string().contains("zmsg.toml"));
        let missing = Config::load("/nowhere/zmsg.yaml").unwrap_err().to_string();
        assert!(missing.contains("/nowhere/zmsg.yaml"), "{missing}");
    }

    #[test]
    fn secrets_are_never_printed() {
        let error = load("zmsg.yaml", "store:\n  url: mysql://app:s3cret@db/x\n", &[]);
        let text = format!("{:?}", error.unwrap_err());
        assert!(!text.contains("s3cret"), "{text}");
        for (name, text) in [
            ("zmsg.toml", "[store]\nurl = \"postgres://app:s3cret@db/x\n"),
            ("zmsg.yaml", "store:\n  url: \"postgres://app:s3cret@db/x\n"),
            ("zmsg.toml", "[store\nurl = \"postgres://app:s3cret@db/x\""),
        ] {
            let text = format!("{:?}", load(name, text, &[]).unwrap_err());
            assert!(!text.contains("s3cret") && text.contains("line"), "{text}");
        }
        let mut config = Config::default();
        config.store.url = "postgres://app:s3cret@db/x".into();
        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
