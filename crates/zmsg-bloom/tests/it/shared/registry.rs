//! The row of state in the database of a world.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use zmsg_bloom::shared::{FilterRegistry, FilterRow, SharedGeneration};
use zmsg_core::Result;

use super::world::{Sabotage, World};

#[derive(Debug)]
pub(super) struct MemoryRegistry(pub(super) Arc<World>);

#[async_trait]
impl FilterRegistry for MemoryRegistry {
    async fn read(&self) -> Result<FilterRow> {
        self.0.pause().await;
        let row = self.0.state().row.clone();
        self.0.fails()?;
        self.0.pause().await;
        Ok(row)
    }

    async fn swap(&self, version: u64, row: &FilterRow) -> Result<bool> {
        self.0.pause().await;
        self.0.fails()?;
        let swapped = {
            let mut state = self.0.state();
            let same = state.row.version == version;
            if same {
                assert!(row.version > version, "a version goes up: {row:?}");
                state.row = row.clone();
            }
            same
        };
        self.0.fails()?;
        self.0.pause().await;
        Ok(swapped)
    }

    async fn beat(&self, building: &SharedGeneration) -> Result<()> {
        self.0.pause().await;
        let mut state = self.0.state();
        if state.row.building.as_ref() == Some(building) {
            state.row.beat += 1;
        }
        Ok(())
    }

    async fn older_transactions_ended(&self) -> Result<()> {
        self.0.pause().await;
        if self.0.sabotage == Sabotage::NoWait {
            return Ok(());
        }
        let open = self.0.state().open.clone();
        while !self.0.state().open.is_disjoint(&open) {
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}
