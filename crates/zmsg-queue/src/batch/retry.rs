//! Dead letters become items again.

use std::collections::HashSet;

use zmsg_core::{ErrorKind, Result};

use super::dead::{Content, DeadLetter, Held, InMemory};
use super::inner::Inner;
use super::intake::Refused;

impl<T: Send + Sync + 'static> Inner<T> {
    /// Without an await: a letter is either one or an item.
    pub(super) fn retry_in_memory(&self, letters: &InMemory<T>, max: usize) -> Result<usize> {
        let (mut retried, mut place) = (0, 0);
        // Those that die again meanwhile are not among the oldest.
        let max = max.min(letters.len());
        while retried + place < max
            && let Some(letter) = letters.take(place)
        {
            let DeadLetter { content: Content::Item(held), .. } = letter else {
                letters.put_back(place, letter);
                place += 1;
                continue;
            };
            let again = |item| DeadLetter { content: Content::Item(item), ..letter };
            let item = match held.into_inner() {
                Ok(item) => item,
                Err(held) => {
                    letters.put_back(place, again(held));
                    place += 1;
                    continue;
                }
            };
            match self.incoming(std::iter::once(item)).map(|incoming| self.accept(incoming)) {
                Ok(Ok(_)) => retried += 1,
                Ok(Err(refused)) => {
                    let (item, error) = match refused {
                        Refused::NoRoom(mut back, error) => (back.items.pop(), error),
                        Refused::For(back, error) => {
                            (back.and_then(|mut back| back.items.pop()), error)
                        }
                    };
                    if let Some(arriving) = item {
                        letters.put_back(place, again(Held::new(arriving.item)));
                    }
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(retried)
    }

    /// An item is on the disk before its letter goes.
    pub(super) async fn retry_from_disk(&self, max: usize) -> Result<usize> {
        let (mut retried, mut refused) = (0, None);
        for letter in self.dead.list(max).await? {
            let Content::Item(held) = letter.content else { continue };
            let Ok(item) = held.into_inner() else { continue };
            match self.enqueue_synced(item).await {
                Ok(()) => {}
                // It cannot be written any more: those behind it can.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    refused.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.dead.remove(&HashSet::from([letter.id])).await?;
            retried += 1;
        }
        refused.filter(|_| retried == 0).map_or(Ok(retried), Err)
    }
}
