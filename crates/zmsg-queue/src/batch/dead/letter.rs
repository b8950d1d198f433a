//! A dead letter, and the item in it.

use std::ops::Deref;
use std::sync::Arc;

use zmsg_core::UnixMillis;

use crate::batch::entry::Entry;
use crate::batch::handler::ItemId;

/// An item that was given up.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadLetter<T> {
    /// The item that it was.
    pub id: ItemId,
    /// How often it was tried.
    pub tries: u32,
    /// What its last try ended with.
    pub error: String,
    /// When it was given up, in milliseconds since 1970.
    pub died_at: UnixMillis,
    /// The item; or its record, if it cannot be read as one.
    pub content: Content<T>,
}

/// What a dead letter holds.
#[derive(Debug)]
pub enum Content<T> {
    /// The item.
    Item(Held<T>),
    /// What cannot be read as an item of this queue: the type has changed.
    Unreadable(Vec<u8>),
}

impl<T> Clone for Content<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Item(item) => Self::Item(item.clone()),
            Self::Unreadable(bytes) => Self::Unreadable(bytes.clone()),
        }
    }
}

/// An item that is shared, not copied.
#[derive(Debug)]
pub struct Held<T>(pub(in crate::batch) Holder<T>);

#[derive(Debug)]
pub(in crate::batch) enum Holder<T> {
    Alone(Arc<T>),
    /// Its handler has kept the batch.
    InBatch(Arc<Vec<Entry<T>>>, usize),
}

impl<T> Clone for Held<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Holder::Alone(item) => Holder::Alone(Arc::clone(item)),
            Holder::InBatch(entries, at) => Holder::InBatch(Arc::clone(entries), *at),
        })
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Holder::Alone(item) => item,
            Holder::InBatch(entries, at) => &entries[*at].item,
        }
    }
}

impl<T> Held<T> {
    pub(in crate::batch) fn new(item: T) -> Self {
        Self(Holder::Alone(Arc::new(item)))
    }

    /// The item itself, if nobody else holds it.
    pub(in crate::batch) fn into_inner(self) -> Result<T, Self> {
        match self.0 {
            Holder::Alone(item) => Arc::try_unwrap(item).map_err(|item| Self(Holder::Alone(item))),
            Holder::InBatch(entries, at) => match Arc::try_unwrap(entries) {
                Ok(mut entries) => Ok(entries.swap_remove(at).item),
                Err(entries) => Err(Self(Holder::InBatch(entries, at))),
            },
        }
    }
}

impl<T> Clone for DeadLetter<T> {
    fn clone(&self) -> Self {
        let (error, content) = (self.error.clone(), self.content.clone());
        Self { id: self.id, tries: self.tries, error, died_at: self.died_at, content }
    }
}
