//! What waits for stretto's threads, done on a thread where waiting costs nobody.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use zmsg_core::Result;

use super::not_started;
use super::room::Room;

/// A thread that ends when this is dropped.
pub(super) struct Janitor {
    /// Taken by the drop.
    chores: Option<SyncSender<Chore>>,
    thread: Option<JoinHandle<()>>,
}

enum Chore {
    /// Take an emptied row out.
    Reap(Weak<Room>, u64),
    /// Drop a room that was replaced, which joins its threads.
    Retire(Arc<Room>),
}

const CHORES_MAX: usize = 1 << 12;

impl Janitor {
    pub(super) fn start() -> Result<Self> {
        let (chores, inbox) = sync_channel(CHORES_MAX);
        let thread = thread::Builder::new().name("zmsg-l1".into()).spawn(move || work(inbox));
        Ok(Self { chores: Some(chores), thread: Some(thread.map_err(not_started)?) })
    }

    /// Has an emptied row taken out, if there is not too much to do: it holds no value, and is
    /// evicted or filled again in time.
    pub(super) fn reap(&self, room: &Arc<Room>, hash: u64) {
        self.post(Chore::Reap(Arc::downgrade(room), hash));
    }

    pub(super) fn retire(&self, room: Arc<Room>) {
        self.post(Chore::Retire(room));
    }

    // A chore that does not fit is dropped: for a room that means here and now.
    fn post(&self, chore: Chore) {
        if let Some(chores) = &self.chores {
            drop(chores.try_send(chore));
        }
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.chores.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn work(inbox: Receiver<Chore>) {
    for chore in inbox {
        match chore {
            Chore::Reap(room, hash) => {
                if let Some(room) = room.upgrade() {
                    room.reap(hash);
                }
            }
            Chore::Retire(room) => {
                // Whoever still looks at it must not be the one to drop it.
                while Arc::strong_count(&room) > 1 {
                    thread::yield_now();
                }
            }
        }
    }
}
