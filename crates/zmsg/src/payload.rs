//! What a value can be given as.

use bytes::Bytes;

/// A value for the cache: bytes, or text taken as its UTF-8 bytes.
pub trait IntoBytes {
    /// The bytes; owned ones are not copied.
    fn into_bytes(self) -> Bytes;
}

macro_rules! into_bytes {
    ($($type:ty, $value:ident => $bytes:expr;)*) => {$(
        impl IntoBytes for $type {
            fn into_bytes(self) -> Bytes {
                let $value = self;
                $bytes
            }
        }
    )*};
}

into_bytes! {
    Bytes, value => value;
    &Bytes, value => value.clone();
    Vec<u8>, value => value.into();
    &Vec<u8>, value => Bytes::copy_from_slice(value);
    &[u8], value => Bytes::copy_from_slice(value);
    String, value => value.into();
    &String, value => Bytes::copy_from_slice(value.as_bytes());
    &str, value => Bytes::copy_from_slice(value.as_bytes());
    &&str, value => Bytes::copy_from_slice(value.as_bytes());
    serde_json::Value, value => value.to_string().into();
    &serde_json::Value, value => value.to_string().into();
}

impl<const N: usize> IntoBytes for &[u8; N] {
    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}
