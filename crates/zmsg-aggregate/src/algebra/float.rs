//! Float counters: steps kept in order, because adding floats does not associate.

use zmsg_core::{Error, ErrorKind, Result, Value};

use super::fold::not_a_number;

/// Steps of a float counter.
///
/// A step that sets swallows what came before it. Others are kept and applied one by one, exactly
/// as the database would, up to [`Self::STEPS_MAX`]: also after a set, because only the column
/// knows whether it rounds as a float does or is a decimal.
#[derive(Debug, Clone, Default)]
pub struct FloatFold {
    /// The value that a set left; the column does not count then.
    pub(super) start: Option<f64>,
    /// What happens to the column otherwise.
    pub(super) steps: Vec<FloatStep>,
}

/// One step of a float counter.
#[derive(Debug, Clone, Copy)]
pub enum FloatStep {
    /// Adds.
    Add(f64),
    /// Multiplies.
    Multiply(f64),
    /// Replaces.
    Set(f64),
}

impl FloatStep {
    pub(super) fn fold(self) -> Result<FloatFold> {
        let (Self::Add(number) | Self::Multiply(number) | Self::Set(number)) = self;
        if !number.is_finite() {
            return Err(Error::invalid_input("a counter takes finite numbers only"));
        }
        Ok(match self {
            Self::Set(to) => FloatFold { start: Some(to), steps: Vec::new() },
            step => FloatFold { start: None, steps: vec![step] },
        })
    }

    pub(super) fn apply(self, x: f64) -> f64 {
        match self {
            Self::Add(by) => x + by,
            Self::Multiply(by) => x * by,
            Self::Set(to) => to,
        }
    }
}

impl FloatFold {
    /// The longest list of steps in one fold.
    pub const STEPS_MAX: usize = 4096;

    /// This fold on a column that holds `x`, without looking at the column.
    pub(super) fn after(self, x: f64) -> Self {
        Self { start: self.start.or(Some(x)), ..self }
    }

    pub(super) fn then(mut self, next: Self) -> Result<Self, (Self, Self)> {
        if next.start.is_some() {
            return Ok(next);
        }
        if self.steps.len() + next.steps.len() > Self::STEPS_MAX {
            return Err((self, next));
        }
        self.steps.extend(next.steps);
        Ok(self)
    }

    fn run(&self, x: f64) -> f64 {
        self.steps.iter().fold(self.start.unwrap_or(x), |x, step| step.apply(x))
    }

    pub(super) fn apply(&self, column: &Value) -> Result<Value> {
        let x = match column {
            Value::Null => 0.0,
            Value::Float(x) => *x,
            // SQLite keeps a whole number in a column of numeric affinity (DECIMAL, NUMERIC) as
            // an integer, whatever was stored.
            Value::Int(x) => exact(*x).ok_or_else(float_on_integer)?,
            other => return Err(not_a_number(other)),
        };
        // SQLite does not keep the sign of a zero; adding zero drops it everywhere.
        let after = self.run(x) + 0.0;
        if after.is_finite() { Ok(Value::Float(after)) } else { Err(not_finite()) }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.steps.capacity() * size_of::<FloatStep>()
    }
}

/// By bits, so that a fold equals itself whatever it holds.
impl PartialEq for FloatFold {
    fn eq(&self, other: &Self) -> bool {
        let same_start = match (self.start, other.start) {
            (Some(a), Some(b)) => same(a, b),
            (None, None) => true,
            _ => false,
        };
        same_start && self.steps == other.steps
    }
}

impl PartialEq for FloatStep {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Add(a), Self::Add(b))
            | (Self::Multiply(a), Self::Multiply(b))
            | (Self::Set(a), Self::Set(b)) => same(*a, *b),
            _ => false,
        }
    }
}

// Which NaN it is depends on the machine, and none gets into a column.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// The float that is this integer, if there is one.
fn exact(x: i64) -> Option<f64> {
    const LARGEST: i64 = 1 << f64::MANTISSA_DIGITS;
    (-LARGEST..=LARGEST).contains(&x).then_some(x as f64)
}

fn float_on_integer() -> Error {
    Error::new(
        ErrorKind::InvalidData,
        "a float operation on an integer that no float is; write the number as an integer, as in inc(1)",
    )
}

fn not_finite() -> Error {
    Error::new(ErrorKind::InvalidData, "counter leaves the range of a 64-bit float")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_not_added_up_among_themselves() {
        // (0.1 + 0.2) + 0.3 differs from 0.1 + (0.2 + 0.3) in the last bit.
        let add = |by| FloatStep::Add(by).fold().unwrap();
        let both = add(0.2).then(add(0.3)).unwrap();
        let Value::Float(folded) = both.apply(&Value::Float(0.1)).unwrap() else { panic!() };
        assert_eq!(folded.to_bits(), ((0.1_f64 + 0.2) + 0.3).to_bits());
        assert_ne!(folded.to_bits(), (0.1_f64 + (0.2 + 0.3)).to_bits());
    }

    #[test]
    fn a_list_of_steps_is_bounded() {
        let one = || FloatStep::Add(1.0).fold().unwrap();
        let full = (1..FloatFold::STEPS_MAX).fold(one(), |all, _| all.then(one()).unwrap());
        assert!(full.then(one()).is_err());
    }
}
