//! What criterion keeps of a run: `benchmark.json` and `sample.json` of each function.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::figures::{Figure, Unit};

/// Reads all functions below this directory.
///
/// # Errors
/// If a file has another shape than criterion 0.8 gives it.
pub(super) fn read(directory: &Path) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let Ok(entries) = fs::read_dir(directory) else { return Ok(figures) };
    let mut places = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    places.sort();
    for place in places.iter().filter(|place| place.is_dir()) {
        if place.ends_with("new") {
            let [benchmark, sample] = ["benchmark.json", "sample.json"].map(|name| {
                let text = fs::read(place.join(name)).with_context(|| format!("no {name}"))?;
                serde_json::from_slice::<Value>(&text).with_context(|| format!("a bad {name}"))
            });
            let figure = figure(&benchmark?, &sample?);
            figures.push(figure.context("criterion keeps its samples in another way")?);
        } else {
            figures.extend(read(place)?);
        }
    }
    Ok(figures)
}

/// Nanoseconds for one iteration, or for one element of it where it says how many it has.
fn figure(benchmark: &Value, sample: &Value) -> Option<Figure> {
    let group = benchmark["group_id"].as_str()?;
    let who = benchmark["function_id"].as_str().unwrap_or(group);
    let (target, case) = group.split_once('/').unwrap_or((group, ""));
    let elements = benchmark["throughput"]["Elements"].as_f64().unwrap_or(1.0);
    let numbers = |name: &str| {
        let numbers = sample[name].as_array()?.iter();
        numbers.map(Value::as_f64).collect::<Option<Vec<_>>>()
    };
    let each = numbers("times")?.into_iter().zip(numbers("iters")?);
    Some(Figure {
        target: target.into(),
        case: case.into(),
        axis: None,
        who: who.into(),
        unit: Unit::Nanoseconds,
        samples: each.map(|(took, iterations)| took / iterations / elements).collect(),
        in_turns: false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_function_is_read_with_its_group_and_for_one_element() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("l1_get_zipf/zmsg/new");
        fs::create_dir_all(&place).unwrap();
        let benchmark = json!({
            "group_id": "l1_get/zipf 0.99", "function_id": "zmsg", "value_str": null,
            "throughput": { "Elements": 10 },
        });
        let sample = json!({ "iters": [1.0, 2.0], "times": [100.0, 400.0] });
        fs::write(place.join("benchmark.json"), benchmark.to_string()).unwrap();
        fs::write(place.join("sample.json"), sample.to_string()).unwrap();
        let figures = read(directory.path()).unwrap();
        assert_eq!(figures.len(), 1);
        let Figure { target, case, who, samples, .. } = &figures[0];
        assert_eq!((target.as_str(), case.as_str(), who.as_str()), ("l1_get", "zipf 0.99", "zmsg"));
        assert_eq!(samples, &[10.0, 20.0]);
    }

    #[test]
    fn a_target_without_criterion_has_no_directory() {
        assert!(read(Path::new("/nowhere")).unwrap().is_empty());
    }
}
