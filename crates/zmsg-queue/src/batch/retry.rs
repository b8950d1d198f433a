//! Dead letters become items again.

use std::collections::HashSet;

use zmsg_core::{Error, ErrorKind, Result};

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
            let accepted = match self.incoming_one(item) {
                Ok(incoming) => self.accept(incoming).map_err(given_back),
                Err((item, error)) => Err((Some(item), error)),
            };
            match accepted {
                Ok(_) => retried += 1,
                Err((item, error)) => {
                    if let Some(item) = item {
                        letters.put_back(place, again(Held::new(item)));
                    }
                    return Err(error);
                }
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

fn given_back<T>(refused: Refused<T>) -> (Option<T>, Error) {
    let (back, error) = match refused {
        Refused::NoRoom(back, error) => (Some(back), error),
        Refused::For(back, error) => (back, error),
    };
    (back.and_then(|mut back| back.items.pop()).map(|arriving| arriving.item), error)
}
