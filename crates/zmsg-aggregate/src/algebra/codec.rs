//! Folds as text: the argument of the functions that a database calls.
//!
//! `[version, family, ..]` in JSON. Integers of 128 bits and floats are strings, so that nothing
//! on the way rounds them. A place in a document is `[value]` (replace), `null` (delete) or an
//! object of places.

use serde_json::{Map as JsonMap, Value as Json, json};
use zmsg_core::{Error, ErrorKind, Result};

use super::json::canonical;
use super::{Affine, FloatFold, FloatStep, Fold, Patch, SliceFold};

/// Raised when the text changes its meaning; folds wait in dead letters across upgrades.
const VERSION: u64 = 1;

impl Fold {
    /// The fold as text.
    pub fn encode(&self) -> String {
        match self {
            Self::Zero => json!([VERSION, "zero"]),
            Self::Counter(map) => {
                json!([VERSION, "counter", map.factor().to_string(), map.offset().to_string()])
            }
            Self::Float(fold) => {
                let steps: Vec<Json> = fold.steps.iter().map(|step| encode_step(*step)).collect();
                json!([VERSION, "float", fold.start.map(encode_float), steps])
            }
            Self::Slice(fold) => {
                let removed: Vec<&Json> = fold.removed.values().collect();
                json!([VERSION, "slice", fold.cleared, removed, fold.appended])
            }
            Self::Map(patch) => json!([VERSION, "map", encode_patch(patch)]),
            Self::Merge(patch) => json!([VERSION, "merge", encode_patch(patch)]),
        }
        .to_string()
    }

    /// The fold in a text that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// `InvalidData` if the text is damaged or of a version that this zmsg does not know.
    pub fn decode(text: &str) -> Result<Self> {
        let parts: Vec<Json> =
            serde_json::from_str(text).map_err(|cause| damaged().with_source(cause))?;
        decode_parts(&parts).ok_or_else(|| {
            let version = parts.first().map(Json::to_string).unwrap_or_default();
            damaged().with_context("version", version)
        })
    }
}

fn decode_parts(parts: &[Json]) -> Option<Fold> {
    let [version, family, rest @ ..] = parts else { return None };
    if version.as_u64() != Some(VERSION) {
        return None;
    }
    Some(match (family.as_str()?, rest) {
        ("zero", []) => Fold::Zero,
        ("counter", [factor, offset]) => Fold::Counter(Affine::new(
            factor.as_str()?.parse().ok()?,
            offset.as_str()?.parse().ok()?,
        )?),
        ("float", [start, steps]) => Fold::Float(decode_float_fold(start, steps)?),
        ("slice", [cleared, removed, appended]) => {
            let removed = removed.as_array()?.iter().map(|v| (canonical(v), v.clone())).collect();
            let appended = appended.as_array()?.clone();
            Fold::Slice(SliceFold { cleared: cleared.as_bool()?, removed, appended })
        }
        ("map", [patch]) => Fold::Map(decode_patch(patch)?),
        ("merge", [patch]) => Fold::Merge(decode_patch(patch)?),
        _ => return None,
    })
}

// The debug form of a float is the shortest text that reads back as the same bits.
fn encode_float(value: f64) -> Json {
    format!("{value:?}").into()
}

fn decode_float(value: &Json) -> Option<f64> {
    value.as_str()?.parse().ok()
}

fn encode_step(step: FloatStep) -> Json {
    match step {
        FloatStep::Add(by) => json!(["+", encode_float(by)]),
        FloatStep::Multiply(by) => json!(["*", encode_float(by)]),
        FloatStep::Set(to) => json!(["=", encode_float(to)]),
    }
}

fn decode_step(step: &Json) -> Option<FloatStep> {
    let [kind, number] = step.as_array()?.as_slice() else { return None };
    let number = decode_float(number)?;
    Some(match kind.as_str()? {
        "+" => FloatStep::Add(number),
        "*" => FloatStep::Multiply(number),
        "=" => FloatStep::Set(number),
        _ => return None,
    })
}

fn decode_float_fold(start: &Json, steps: &Json) -> Option<FloatFold> {
    let start = if start.is_null() { None } else { Some(decode_float(start)?) };
    let steps = steps.as_array()?.iter().map(decode_step).collect::<Option<_>>()?;
    Some(FloatFold { start, steps })
}

fn encode_patch(patch: &Patch) -> Json {
    match patch {
        Patch::Replace(value) => json!([value]),
        Patch::Delete => Json::Null,
        Patch::Keys(patches) => {
            let fields = patches.iter().map(|(key, patch)| (key.clone(), encode_patch(patch)));
            Json::Object(fields.collect::<JsonMap<_, _>>())
        }
    }
}

fn decode_patch(patch: &Json) -> Option<Patch> {
    Some(match patch {
        Json::Array(value) => match value.as_slice() {
            [value] => Patch::Replace(value.clone()),
            _ => return None,
        },
        Json::Null => Patch::Delete,
        Json::Object(fields) => {
            let decode = |(key, patch): (&String, &Json)| Some((key.clone(), decode_patch(patch)?));
            Patch::Keys(fields.iter().map(decode).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn damaged() -> Error {
    Error::new(ErrorKind::InvalidData, "this is no fold that this version of zmsg can read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_another_version_or_family_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"[2,"zero"]"#,
            r#"[1,"sum"]"#,
            r#"[1,"counter","1"]"#,
            r#"[1,"counter","1","170141183460469231731687303715884105727"]"#,
            r#"[1,"float",null,[["?","1.0"]]]"#,
            r#"[1,"map",7]"#,
        ] {
            let error = Fold::decode(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "{text}");
        }
    }
}
