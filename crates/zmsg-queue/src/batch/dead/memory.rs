//! The dead letters of a queue in memory. Nothing here waits, so nothing is dropped half way.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use super::letter::DeadLetter;
use super::{Bound, Buried};
use crate::batch::backlog::locked;
use crate::batch::config::OnDeadFull;
use crate::batch::handler::ItemId;

#[derive(Debug)]
pub(in crate::batch) struct InMemory<T> {
    kept: Mutex<Kept<T>>,
    bound: Bound,
}

#[derive(Debug)]
struct Kept<T> {
    letters: VecDeque<DeadLetter<T>>,
    /// Room that was promised.
    reserved: usize,
}

impl<T> InMemory<T> {
    pub(super) fn new(bound: Bound) -> Self {
        Self { kept: Mutex::new(Kept { letters: VecDeque::new(), reserved: 0 }), bound }
    }

    pub(in crate::batch) fn len(&self) -> usize {
        locked(&self.kept).letters.len()
    }

    /// Makes sure that there is room for more.
    pub(in crate::batch) fn reserve(&self, more: usize) -> Buried {
        let mut kept = locked(&self.kept);
        let over = (kept.letters.len() + kept.reserved + more).saturating_sub(self.bound.max);
        if over > 0 && self.bound.on_full == OnDeadFull::Wait {
            return Buried::Full;
        }
        let dropped = over.min(kept.letters.len());
        kept.letters.drain(..dropped);
        kept.reserved += more;
        Buried::Done { dropped: dropped as u64 }
    }

    /// Puts letters where room was reserved for them. How many others that dropped, because several
    /// batches died at once.
    pub(in crate::batch) fn fill_reserved(&self, letters: Vec<DeadLetter<T>>) -> u64 {
        let mut kept = locked(&self.kept);
        kept.reserved -= letters.len();
        kept.letters.extend(letters);
        let over = kept.letters.len().saturating_sub(self.bound.max);
        kept.letters.drain(..over);
        over as u64
    }

    pub(super) fn list(&self, max: usize) -> Vec<DeadLetter<T>> {
        locked(&self.kept).letters.iter().take(max).cloned().collect()
    }

    pub(super) fn remove(&self, ids: &HashSet<ItemId>) -> usize {
        let letters = &mut locked(&self.kept).letters;
        let before = letters.len();
        letters.retain(|letter| !ids.contains(&letter.id));
        before - letters.len()
    }

    /// Takes the letter at a place out.
    pub(in crate::batch) fn take(&self, place: usize) -> Option<DeadLetter<T>> {
        locked(&self.kept).letters.remove(place)
    }

    /// Puts a letter back where it was.
    pub(in crate::batch) fn put_back(&self, place: usize, letter: DeadLetter<T>) {
        let letters = &mut locked(&self.kept).letters;
        let place = place.min(letters.len());
        letters.insert(place, letter);
    }
}
