//! What can be given as the binds of a text.

use zmsg_core::Value;

/// The binds of a text: a tuple of up to 16 values of any types, an array of one type, or
/// [`Value`]s as a vector or a slice. `()` is none; one bind is written `(value,)` or `[value]`.
pub trait IntoBinds {
    /// The values, in the order of their placeholders.
    fn into_binds(self) -> Vec<Value>;
}

impl IntoBinds for () {
    fn into_binds(self) -> Vec<Value> {
        Vec::new()
    }
}

// Not for `Vec<T>`: a `Vec<u8>` is one bind of bytes to whoever writes it, and must not become
// one integer per byte.
impl IntoBinds for Vec<Value> {
    fn into_binds(self) -> Vec<Value> {
        self
    }
}

impl IntoBinds for &[Value] {
    fn into_binds(self) -> Vec<Value> {
        self.to_vec()
    }
}

impl IntoBinds for &Vec<Value> {
    fn into_binds(self) -> Vec<Value> {
        self.clone()
    }
}

impl<T: Into<Value>, const N: usize> IntoBinds for [T; N] {
    fn into_binds(self) -> Vec<Value> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuples_into_binds {
    ($first:ident $($rest:ident)*) => {
        impl<$first: Into<Value>, $($rest: Into<Value>),*> IntoBinds for ($first, $($rest,)*) {
            #[allow(non_snake_case, reason = "the type parameters name the fields as well")]
            fn into_binds(self) -> Vec<Value> {
                let ($first, $($rest,)*) = self;
                vec![$first.into(), $($rest.into()),*]
            }
        }
        tuples_into_binds!($($rest)*);
    };
    () => {};
}

tuples_into_binds!(A B C D E F G H I J K L M N O P);
