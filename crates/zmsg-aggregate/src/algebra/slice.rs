//! JSON arrays: what is removed from the base, and what is appended.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use zmsg_core::{Error, ErrorKind, Result, SliceOp};

use super::json::{canonical, check_depth, equal, json_bytes};
use crate::sabotage;

/// Steps of a JSON array: emptied or not, elements removed from the base, elements appended.
///
/// Removing takes every equal element from the base and from what was appended before; appending
/// keeps duplicates. Numbers are equal by value (`1` and `1.0`), exactly, whatever their size.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SliceFold {
    pub(super) cleared: bool,
    /// By canonical form, so that each is kept once. Empty if `cleared`.
    pub(super) removed: BTreeMap<String, Json>,
    pub(super) appended: Vec<Json>,
}

/// Up to so many removals, comparing is cheaper than writing each element's canonical form.
const COMPARED_MAX: usize = 4;

impl SliceFold {
    pub(super) fn of(step: &SliceOp) -> Result<Self> {
        let mut fold = Self::default();
        match step {
            SliceOp::Add(values) => {
                values.iter().try_for_each(check_depth)?;
                fold.appended = values.clone();
            }
            SliceOp::Del(values) => {
                values.iter().try_for_each(check_depth)?;
                fold.removed = values.iter().map(|v| (canonical(v), v.clone())).collect();
            }
            SliceOp::Clean => fold.cleared = true,
        }
        Ok(fold)
    }

    pub(super) fn then(mut self, next: Self) -> Self {
        if next.cleared {
            return next;
        }
        next.retain_kept(&mut self.appended);
        if !self.cleared {
            self.removed.extend(next.removed);
        }
        if sabotage::swaps_the_order() {
            self.appended.splice(..0, next.appended);
        } else {
            self.appended.extend(next.appended);
        }
        self
    }

    pub(super) fn apply(&self, column: Option<Json>) -> Result<Json> {
        let mut elements = match column {
            None => Vec::new(),
            Some(Json::Array(elements)) => elements,
            Some(other) => return Err(not_an_array(&other)),
        };
        if self.cleared {
            elements.clear();
        }
        self.retain_kept(&mut elements);
        elements.extend(self.appended.iter().cloned());
        Ok(Json::Array(elements))
    }

    fn retain_kept(&self, elements: &mut Vec<Json>) {
        if self.removed.is_empty() {
            return;
        }
        if self.removed.len() <= COMPARED_MAX {
            elements.retain(|element| !self.removed.values().any(|gone| equal(gone, element)));
        } else {
            elements.retain(|element| !self.removed.contains_key(&canonical(element)));
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let removed = self.removed.iter().map(|(text, value)| text.len() + 48 + json_bytes(value));
        removed.sum::<usize>() + self.appended.iter().map(json_bytes).sum::<usize>()
    }
}

fn not_an_array(found: &Json) -> Error {
    Error::new(ErrorKind::InvalidData, "a slice's column does not hold a JSON array")
        .with_context("found", super::json::type_name(found))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn add(values: Vec<Json>) -> SliceFold {
        SliceFold::of(&SliceOp::Add(values)).unwrap()
    }

    fn del(values: Vec<Json>) -> SliceFold {
        SliceFold::of(&SliceOp::Del(values)).unwrap()
    }

    #[test]
    fn what_is_added_after_a_removal_stays() {
        let fold = add(vec![json!(1)]).then(del(vec![json!(1)])).then(add(vec![json!(1)]));
        assert_eq!(fold.apply(Some(json!([1, 2, 1]))).unwrap(), json!([2, 1]));
    }

    #[test]
    fn both_ways_to_remove_agree() {
        let base = json!([1, 1.0, "1", {"a": [1]}, {"a": [1.0]}, null, 9_007_199_254_740_993_i64]);
        let few = vec![json!(1), json!({"a": [1]}), json!(9_007_199_254_740_992.0)];
        let mut many = few.clone();
        many.extend((100..110).map(Json::from));
        let kept = json!(["1", null, 9_007_199_254_740_993_i64]);
        assert_eq!(del(few).apply(Some(base.clone())).unwrap(), kept);
        assert_eq!(del(many).apply(Some(base)).unwrap(), kept);
    }

    #[test]
    fn the_same_removal_is_kept_once() {
        let fold = (0..1000).fold(del(vec![json!(1)]), |all, _| all.then(del(vec![json!(1.0)])));
        assert_eq!(fold.removed.len(), 1);
    }
}
