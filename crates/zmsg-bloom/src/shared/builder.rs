//! Rebuilds: a new generation is filled beside the one that answers, and takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;
use zmsg_core::{Error, ErrorKind, Key, Result};

use super::core::{Core, crowded, lock};
use super::live::Live;
use super::view::View;
use super::writer::{KEYS_PER_CALL, without_building};
use super::{Cause, FilterRow, Held, Shape, SharedGeneration};
use crate::Rebuild;
use crate::local::random_seed;

/// How often a builder says that it lives.
const BEAT: Duration = Duration::from_secs(1);

/// Calls of one seeding at a time: enough to hide the way to the server.
const SEEDS_AT_ONCE: usize = 4;

/// How often the switch is tried against others that change the state.
const ATTEMPTS: u32 = 16;

/// Numbers the rebuilds of all filters of this process, so that no token fits two of them.
static REBUILDS: AtomicU64 = AtomicU64::new(1);

/// The rebuild that runs on this node.
#[derive(Debug)]
pub(super) struct Running {
    id: u64,
    building: Option<Arc<Live>>,
    seeded: u64,
    beaten: Instant,
}

impl Running {
    pub(super) fn builds(&self, generation: &SharedGeneration) -> bool {
        self.building.as_ref().is_some_and(|live| live.generation() == generation)
    }
}

impl Core {
    pub(super) async fn begin_rebuild(self: &Arc<Self>, expected: u64) -> Result<Rebuild> {
        let rebuild = self.claim()?;
        let shape = self.shape_for(expected)?;
        // Who takes the trust away waits for a grace under an unsettled row: a rebuild that changed it
        // meanwhile would make that begin again and again.
        let view = self.settle(self.refresh().await?).await?;
        self.refuse_a_second(&view)?;
        let generation = self.create(shape).await?;
        // From here on dropping the token cleans up.
        let live = Arc::new(Live::new(generation));
        self.update(rebuild.id(), |running| running.building = Some(Arc::clone(&live)));
        let view = self.enter(live.generation()).await?;
        if let Some(live) = view.live(live.generation()) {
            self.update(rebuild.id(), |running| running.building = Some(Arc::clone(live)));
        }
        self.sweep().await;
        // Every transaction that begins from here on has added its keys to the new generation, or
        // is refused; the rows of those before can only come from the source.
        let older_ended = async {
            self.writes.earlier_ended().await;
            self.registry.older_transactions_ended().await
        };
        tokio::pin!(older_ended);
        loop {
            tokio::select! {
                ended = &mut older_ended => break ended?,
                () = tokio::time::sleep(BEAT) => self.registry.beat(live.generation()).await?,
            }
        }
        Ok(rebuild)
    }

    pub(super) async fn seed(&self, rebuild: &Rebuild, keys: &[Key]) -> Result<()> {
        let live = self.building(rebuild)?;
        let mut calls = Vec::with_capacity(keys.len().div_ceil(KEYS_PER_CALL));
        calls.extend(keys.chunks(KEYS_PER_CALL).map(|some| self.seed_some(&live, some)));
        stream::iter(calls).buffer_unordered(SEEDS_AT_ONCE).try_collect::<()>().await?;
        let mut due = false;
        self.update(rebuild.id(), |running| {
            running.seeded += keys.len() as u64;
            due = running.beaten.elapsed() >= BEAT;
            if due {
                running.beaten = Instant::now();
            }
        });
        if due {
            self.registry.beat(live.generation()).await?;
        }
        Ok(())
    }

    pub(super) async fn finish_rebuild(&self, rebuild: Rebuild) -> Result<()> {
        let live = self.building(&rebuild)?;
        let seeded = lock(&self.running).as_ref().map_or(0, |running| running.seeded);
        self.seeded_max.fetch_max(seeded, Relaxed);
        // The server may have lost what it acknowledged, whole or in part.
        let held = self.call(|| self.bits.probe(live.generation())).await?;
        live.heard(held);
        if held == Held::Lost {
            return Err(lost());
        }
        if live.is_over_filled() {
            return Err(Error::new(ErrorKind::Overloaded, "a rebuild met more keys than expected")
                .temporary()
                .with_context("seeded", seeded));
        }
        let covers: Vec<String> = rebuild.covers().map(str::to_owned).collect();
        let view = self.switch(live.generation(), covers).await?;
        self.count_rebuild();
        lock(&self.running).take();
        rebuild.ended();
        tracing::info!(keys = seeded, version = view.row.version, "the shared filter was rebuilt");
        // The switch is done: what is left of the old generation costs time, never an answer.
        if let Err(error) = self.finish_retiring(view).await {
            tracing::warn!(%error, "the generation before stays until the next rebuild");
        }
        Ok(())
    }

    /// Takes rebuilds that were dropped here out of the state.
    pub(super) async fn clear_abandoned(&self) -> Result<()> {
        let abandoned = lock(&self.abandoned).clone();
        for generation in abandoned {
            self.change(|view| without_building(view, &generation)).await?;
            if let Some(shape) = generation.shape() {
                self.heard(self.bits.remove(&shape.name()).await)?;
            }
            lock(&self.abandoned).retain(|other| *other != generation);
        }
        Ok(())
    }

    fn claim(self: &Arc<Self>) -> Result<Rebuild> {
        let mut running = lock(&self.running);
        if running.is_some() {
            return Err(another_runs());
        }
        let id = REBUILDS.fetch_add(1, Relaxed);
        *running = Some(Running { id, building: None, seeded: 0, beaten: Instant::now() });
        let core = Arc::clone(self);
        Ok(Rebuild::new(id, move || core.abandon(id)))
    }

    fn abandon(&self, id: u64) {
        let mut running = lock(&self.running);
        if running.as_ref().is_some_and(|running| running.id == id) {
            let building = running.take().and_then(|running| running.building);
            drop(running);
            lock(&self.abandoned).extend(building.map(|live| live.generation().clone()));
        }
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut Running)) {
        if let Some(running) = lock(&self.running).as_mut().filter(|running| running.id == id) {
            change(running);
        }
    }

    fn building(&self, rebuild: &Rebuild) -> Result<Arc<Live>> {
        let running = lock(&self.running);
        let mine = running.as_ref().filter(|running| running.id == rebuild.id());
        mine.and_then(|running| running.building.clone()).ok_or_else(|| {
            Error::new(ErrorKind::Conflict, "this rebuild of the filter does not run")
                .with_context("rebuild", rebuild.id())
        })
    }

    /// Half as many keys again as there are, and never fewer than an earlier rebuild met.
    fn shape_for(&self, expected: u64) -> Result<Shape> {
        let keys = expected.max(self.seeded_max.load(Relaxed));
        let capacity = self.options.capacity.max(keys.saturating_add(keys / 2));
        Shape::new(capacity, self.options.error_rate, self.options.segment_bits_max)
    }

    fn refuse_a_second(&self, view: &View) -> Result<()> {
        match &view.row.building {
            Some(_) if !self.is_orphan(view) => Err(another_runs()),
            _ => Ok(()),
        }
    }

    async fn create(&self, shape: Shape) -> Result<SharedGeneration> {
        let number = self.known().await?.row.version + 1;
        let shape = Shape {
            number,
            nonce: random_seed(),
            builder: self.node,
            seed: random_seed(),
            ..shape
        };
        let identity = self.call(|| self.bits.create(&shape)).await?;
        Ok(Shape { identity, ..shape }.into())
    }

    /// Names the new generation in the state, so that all writes add to it. An orphan makes room;
    /// a trusted generation that is known to be lost is named no more.
    async fn enter(&self, generation: &SharedGeneration) -> Result<Arc<View>> {
        for _ in 0..ATTEMPTS {
            let view = self.refresh().await?;
            self.refuse_a_second(&view)?;
            let mut row = view.row.next();
            row.take_out(Cause::Lost, |named| view.live(named).is_some_and(|live| live.is_lost()));
            row.building = Some(generation.clone());
            if let Some(view) = self.swap(&view, row).await? {
                return Ok(view);
            }
        }
        Err(crowded())
    }

    async fn seed_some(&self, live: &Live, keys: &[Key]) -> Result<()> {
        match self.add(live, keys).await? {
            Held::Whole { .. } => Ok(()),
            Held::Lost => Err(lost()),
        }
    }

    /// Makes the generation the trusted one, and the one before it retiring: readers may trust that
    /// for the rest of their lease, so writes still add to it.
    async fn switch(&self, to: &SharedGeneration, covers: Vec<String>) -> Result<Arc<View>> {
        for _ in 0..ATTEMPTS {
            let view = self.refresh().await?;
            if view.row.building.as_ref() != Some(to) {
                return Err(spoiled());
            }
            if view.row.retiring.is_some() {
                // Left by a builder that ended early: there is room for one.
                self.finish_retiring(view).await?;
                continue;
            }
            let row = FilterRow {
                trusted: Some(to.clone()),
                retiring: view.row.trusted.clone(),
                building: None,
                covers: covers.clone(),
                ..view.row.next()
            };
            if let Some(view) = self.swap(&view, row).await? {
                return Ok(view);
            }
        }
        Err(crowded())
    }

    /// Waits until no reader trusts the retiring generation any more, and lets go of it.
    async fn finish_retiring(&self, view: Arc<View>) -> Result<()> {
        let Some(old) = view.row.retiring.clone() else { return Ok(()) };
        // Told to the server as well, it holds even for a reader whose clock stood still.
        if let Err(error) = self.heard(self.bits.retire(&old).await) {
            tracing::debug!(%error, "a generation retires by its leases alone");
        }
        // Counted from the first version that this node saw it retiring in, or from a later one.
        tokio::time::sleep_until(view.learned + self.options.grace()).await;
        self.change(|view| {
            let named = view.row.retiring.as_ref() == Some(&old);
            named.then(|| FilterRow { retiring: None, ..view.row.next() })
        })
        .await?;
        match old.shape() {
            Some(shape) => self.heard(self.bits.remove(&shape.name()).await),
            None => Ok(()),
        }
    }

    /// Removes what no row names: left by builders that died. One that another node makes at this
    /// moment may be among them; then that rebuild fails at its end and is repeated.
    async fn sweep(&self) {
        let swept = async {
            let names = self.bits.names().await?;
            let view = self.refresh().await?;
            let named: Vec<String> =
                view.row.generations().filter_map(|it| it.shape().map(Shape::name)).collect();
            for name in names.iter().filter(|name| !named.contains(*name)) {
                self.bits.remove(name).await?;
            }
            Ok(())
        };
        let swept: Result<()> = swept.await;
        if let Err(error) = swept {
            tracing::debug!(%error, "leftovers of a shared filter stay until the next rebuild");
        }
    }
}

fn another_runs() -> Error {
    Error::new(ErrorKind::Conflict, "another rebuild of the filter runs").temporary()
}

fn spoiled() -> Error {
    Error::new(ErrorKind::Conflict, "a rebuild was overtaken, or rows were written behind its back")
        .temporary()
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the generation that is being built was lost").temporary()
}
