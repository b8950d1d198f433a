//! What a run of operations does to one column, in one value.

use zmsg_core::{CounterOp, Error, ErrorKind, Number, OpKind, Result, Value};

use super::json::{read_json, write_json};
use super::{Affine, FloatFold, FloatStep, Patch, SliceFold};

/// What a run of operations does to one column.
///
/// - `apply(apply(v, a), b) == apply(v, a.then(b))` wherever the left side is legal.
/// - Between two operations arithmetic is unbounded; only the final value must fit the column.
/// - NULL counts as zero, as the empty slice and as the empty object.
/// - A column that holds another type is refused whatever the operations are, so that a folded
///   run is refused where each of its operations would be.
#[derive(Debug, Clone, PartialEq)]
pub enum Fold {
    /// A counter set to zero, integer or float as its column is.
    Zero,
    /// Steps of an integer counter: x → a·x + b.
    Counter(Affine),
    /// Steps of a float counter.
    Float(FloatFold),
    /// Steps of a JSON array.
    Slice(SliceFold),
    /// Steps of the top level of a JSON object; a root of another type is refused.
    Map(Patch),
    /// Merge patches (RFC 7396); a root of another type becomes an object, as the RFC says.
    Merge(Patch),
}

impl Fold {
    /// The fold of one operation.
    ///
    /// # Errors
    /// `InvalidInput` for JSON that nests deeper than [`DEPTH_MAX`](super::DEPTH_MAX), or for a
    /// float that is not finite.
    pub fn of(kind: &OpKind) -> Result<Self> {
        Ok(match kind {
            OpKind::Counter(step) => Self::of_counter(*step)?,
            OpKind::Slice(step) => Self::Slice(SliceFold::of(step)?),
            OpKind::Map(step) => Self::Map(Patch::of_map(step)?),
            OpKind::Merge(patch) => Self::Merge(Patch::of_merge(patch)?),
        })
    }

    fn of_counter(step: CounterOp) -> Result<Self> {
        Ok(match step {
            CounterOp::Inc(Number::Int(by)) => Self::Counter(Affine::add(by.into())),
            CounterOp::Dec(Number::Int(by)) => Self::Counter(Affine::add(-i128::from(by))),
            CounterOp::Mul(Number::Int(by)) => Self::Counter(Affine::multiply(by)),
            CounterOp::Set(Number::Int(to)) => Self::Counter(Affine::set(to)),
            CounterOp::Inc(Number::Float(by)) => Self::Float(FloatStep::Add(by).fold()?),
            CounterOp::Dec(Number::Float(by)) => Self::Float(FloatStep::Add(-by).fold()?),
            CounterOp::Mul(Number::Float(by)) => Self::Float(FloatStep::Multiply(by).fold()?),
            CounterOp::Set(Number::Float(to)) => Self::Float(FloatStep::Set(to).fold()?),
            CounterOp::Clean => Self::Zero,
        })
    }

    /// This and then `next`, as one fold.
    ///
    /// # Errors
    /// Both, unchanged, if they have to be kept apart: they are of different families, their
    /// composition leaves the range of the arithmetic, or it would grow without bound.
    // The error is as wide as the two folds it gives back, which is the point of it.
    #[expect(clippy::result_large_err, reason = "both folds are given back, not an error")]
    pub fn then(self, next: Self) -> Result<Self, (Self, Self)> {
        match (self, next) {
            (Self::Zero | Self::Counter(_) | Self::Float(_), Self::Zero) => Ok(Self::Zero),
            (Self::Zero, Self::Counter(b)) => match Affine::set(0).then(b) {
                Some(both) => Ok(Self::Counter(both)),
                None => Err((Self::Zero, Self::Counter(b))),
            },
            (Self::Counter(a), Self::Counter(b)) => match a.then(b) {
                Some(both) => Ok(Self::Counter(both)),
                None => Err((Self::Counter(a), Self::Counter(b))),
            },
            (Self::Zero, Self::Float(b)) => Ok(Self::Float(b.after(0.0))),
            (Self::Float(a), Self::Float(b)) => match a.then(b) {
                Ok(both) => Ok(Self::Float(both)),
                Err((a, b)) => Err((Self::Float(a), Self::Float(b))),
            },
            (Self::Slice(a), Self::Slice(b)) => Ok(Self::Slice(a.then(b))),
            (Self::Map(a), Self::Map(b)) => Ok(Self::Map(a.then(b))),
            (Self::Merge(a), Self::Merge(b)) => Ok(Self::Merge(a.then(b))),
            apart => Err(apart),
        }
    }

    /// What the column holds afterwards.
    ///
    /// JSON columns are text or bytes that hold JSON, and stay what they are; NULL becomes text.
    /// JSON numbers are 64-bit integers or 64-bit floats: a longer one loses digits.
    ///
    /// # Errors
    /// `InvalidData` if the column holds another type, or the result does not fit it.
    pub fn apply(&self, column: &Value) -> Result<Value> {
        match self {
            Self::Zero => zero(column),
            Self::Counter(fold) => fold.apply(column),
            Self::Float(fold) => fold.apply(column),
            Self::Slice(fold) => write_json(column, fold.apply(read_json(column)?)?),
            Self::Map(fold) => write_json(column, fold.apply_to_object(read_json(column)?)?),
            Self::Merge(fold) => write_json(column, fold.apply(read_json(column)?)),
        }
    }

    /// What the fold adds to an integer, if that is all it does.
    pub(crate) fn addition(&self) -> Option<i128> {
        match self {
            Self::Counter(fold) if fold.factor() == 1 => Some(fold.offset()),
            _ => None,
        }
    }

    /// Bytes that the fold keeps in memory besides itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Zero | Self::Counter(_) => 0,
            Self::Float(fold) => fold.heap_bytes(),
            Self::Slice(fold) => fold.heap_bytes(),
            Self::Map(fold) | Self::Merge(fold) => fold.heap_bytes(),
        }
    }
}

fn zero(column: &Value) -> Result<Value> {
    match column {
        Value::Null | Value::Int(_) => Ok(Value::Int(0)),
        Value::Float(_) => Ok(Value::Float(0.0)),
        other => Err(not_a_number(other)),
    }
}

pub(super) fn not_a_number(found: &Value) -> Error {
    Error::new(ErrorKind::InvalidData, "a counter's column does not hold a number")
        .with_context("value", format!("{found:?}"))
}
