//! JSON objects: replace, delete, or patch key by key.

use std::collections::BTreeMap;

use serde_json::{Map as JsonMap, Value as Json};
use zmsg_core::{Error, ErrorKind, MapOp, Result};

use super::json::{check_depth, json_bytes, type_name};

/// What happens to one place in a JSON document.
///
/// Merge patches alone do not compose: `{"a": {"b": 1}}` after `{"a": 7}` is no merge patch. With
/// "replace" as a form of its own the algebra is closed, and every run folds into one.
#[derive(Debug, Clone, PartialEq)]
pub enum Patch {
    /// The place holds this, whatever it held.
    Replace(Json),
    /// The place is gone.
    Delete,
    /// The place is an object (an empty one if it was not), and these of its keys change.
    Keys(BTreeMap<String, Patch>),
}

impl Patch {
    pub(super) fn of_map(step: &MapOp) -> Result<Self> {
        Ok(match step {
            MapOp::Set(key, value) => {
                check_depth(value)?;
                Self::Keys(BTreeMap::from([(key.clone(), Self::Replace(value.clone()))]))
            }
            MapOp::Del(key) => Self::Keys(BTreeMap::from([(key.clone(), Self::Delete)])),
            MapOp::Clean => Self::Replace(Json::Object(JsonMap::new())),
        })
    }

    /// The patch of a merge patch document (RFC 7396).
    pub(super) fn of_merge(document: &Json) -> Result<Self> {
        check_depth(document)?;
        Ok(Self::of_document(document))
    }

    fn of_document(document: &Json) -> Self {
        let Json::Object(fields) = document else { return Self::Replace(document.clone()) };
        let of_field = |(key, value): (&String, &Json)| {
            // Inside an object null deletes; a document that is null replaces.
            let patch = if value.is_null() { Self::Delete } else { Self::of_document(value) };
            (key.clone(), patch)
        };
        Self::Keys(fields.iter().map(of_field).collect())
    }

    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (_, next @ (Self::Replace(_) | Self::Delete)) => next,
            (Self::Replace(value), next) => Self::Replace(next.apply(Some(value))),
            (Self::Delete, next) => Self::Replace(next.apply(None)),
            (Self::Keys(mut first), Self::Keys(second)) => {
                for (key, next) in second {
                    let patch = match first.remove(&key) {
                        Some(earlier) => earlier.then(next),
                        None => next,
                    };
                    first.insert(key, patch);
                }
                Self::Keys(first)
            }
        }
    }

    /// The document afterwards; one that is deleted whole is null.
    pub(super) fn apply(&self, document: Option<Json>) -> Json {
        match self {
            Self::Replace(value) => value.clone(),
            Self::Delete => Json::Null,
            Self::Keys(patches) => {
                let mut object = match document {
                    Some(Json::Object(object)) => object,
                    _ => JsonMap::new(),
                };
                for (key, patch) in patches {
                    patch.apply_to_key(&mut object, key);
                }
                Json::Object(object)
            }
        }
    }

    fn apply_to_key(&self, object: &mut JsonMap<String, Json>, key: &str) {
        let before = object.remove(key);
        if !matches!(self, Self::Delete) {
            object.insert(key.to_owned(), self.apply(before));
        }
    }

    /// As [`apply`](Self::apply), but a document that is no object is refused.
    pub(super) fn apply_to_object(&self, document: Option<Json>) -> Result<Json> {
        match document {
            None | Some(Json::Object(_)) => Ok(self.apply(document)),
            Some(other) => Err(not_an_object(&other)),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Replace(value) => json_bytes(value),
            Self::Delete => 0,
            Self::Keys(patches) => {
                patches.iter().map(|(key, patch)| key.len() + 64 + patch.heap_bytes()).sum()
            }
        }
    }
}

fn not_an_object(found: &Json) -> Error {
    Error::new(ErrorKind::InvalidData, "a map's column does not hold a JSON object")
        .with_context("found", type_name(found))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The examples of RFC 7396, appendix A: original, patch, result.
    #[test]
    fn merges_as_the_examples_of_rfc_7396() {
        for (original, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let folded = Patch::of_merge(&patch).unwrap().apply(Some(original.clone()));
            assert_eq!(folded, result, "{original} + {patch}");
        }
    }

    #[test]
    fn merges_fold_that_are_no_merge_patch_together() {
        let first = Patch::of_merge(&json!({"a": 7})).unwrap();
        let second = Patch::of_merge(&json!({"a": {"b": 1}})).unwrap();
        let folded = first.then(second).apply(Some(json!({"a": {"c": 2}})));
        assert_eq!(folded, json!({"a": {"b": 1}}));
    }
}
