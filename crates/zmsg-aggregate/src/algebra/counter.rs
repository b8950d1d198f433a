//! Integer counters: affine maps over 128-bit integers.

use zmsg_core::{Error, ErrorKind, Result, Value};

use super::fold::not_a_number;

/// The map x → factor·x + offset.
///
/// Every step of an integer counter is one, and so is every run of steps: add is (1, b), multiply
/// is (a, 0), set is (0, b). The factor stays within ±2^63 and the offset below 2^126 in
/// magnitude, so that applying it to a 64-bit integer cannot overflow 128 bits: what comes out is
/// exact, and then either fits the column or is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affine {
    factor: i128,
    offset: i128,
}

const FACTOR_MAX: u128 = 1 << 63;
const OFFSET_LIMIT: u128 = 1 << 126;

impl Affine {
    /// A map, if it lies within the bounds.
    pub fn new(factor: i128, offset: i128) -> Option<Self> {
        let within = factor.unsigned_abs() <= FACTOR_MAX && offset.unsigned_abs() < OFFSET_LIMIT;
        within.then_some(Self { factor, offset })
    }

    pub(super) fn add(by: i128) -> Self {
        Self { factor: 1, offset: by }
    }

    pub(super) fn multiply(by: i64) -> Self {
        Self { factor: by.into(), offset: 0 }
    }

    pub(super) fn set(to: i64) -> Self {
        Self { factor: 0, offset: to.into() }
    }

    /// What x is multiplied with.
    pub fn factor(self) -> i128 {
        self.factor
    }

    /// What is added then.
    pub fn offset(self) -> i128 {
        self.offset
    }

    /// This and then `next`; `None` if the composition leaves the bounds.
    pub(super) fn then(self, next: Self) -> Option<Self> {
        let factor = next.factor.checked_mul(self.factor)?;
        let offset = next.factor.checked_mul(self.offset)?.checked_add(next.offset)?;
        Self::new(factor, offset)
    }

    pub(super) fn apply(self, column: &Value) -> Result<Value> {
        let x = match column {
            Value::Null => 0,
            Value::Int(x) => *x,
            Value::Float(_) => return Err(integer_on_float()),
            other => return Err(not_a_number(other)),
        };
        i64::try_from(self.factor * i128::from(x) + self.offset)
            .map(Value::Int)
            .map_err(|_| out_of_range())
    }
}

fn integer_on_float() -> Error {
    Error::new(
        ErrorKind::InvalidData,
        "an integer operation on a float column; write the number as a float, as in inc(1.0)",
    )
}

fn out_of_range() -> Error {
    Error::new(ErrorKind::InvalidData, "counter leaves the range of a 64-bit integer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_map_applied_to_the_widest_integer_does_not_overflow() {
        for factor in [i128::from(i64::MIN), -1, 0, 1, 1 << 63] {
            for offset in [1 - (1 << 126), 0, (1 << 126) - 1] {
                let map = Affine::new(factor, offset).unwrap();
                for x in [i64::MIN, -1, 0, 1, i64::MAX] {
                    let _ = map.apply(&Value::Int(x));
                }
            }
        }
        assert_eq!(Affine::new((1 << 63) + 1, 0), None);
        assert_eq!(Affine::new(0, 1 << 126), None);
    }

    #[test]
    fn a_float_column_is_refused_with_the_way_out() {
        let error = Affine::add(1).apply(&Value::Float(1.0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.message().contains("inc(1.0)"), "{error}");
    }
}
