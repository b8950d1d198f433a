//! Leases in a database.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use zmsg_idgen::conformance::Harness;
use zmsg_idgen::{Layout, Lease, NodeLease, Reserve, SqlLeaseOptions};

use crate::sql::Database;

struct Sql {
    database: Database,
}

impl Sql {
    async fn sqlite() -> Self {
        Self { database: Database::sqlite().await }
    }

    async fn postgres() -> Option<Self> {
        Database::postgres().await.map(|database| Self { database })
    }
}

#[async_trait]
impl Harness for Sql {
    fn layout(&self) -> Layout {
        Layout::new(Layout::EPOCH_2021_MS, 41, 2, 20).unwrap()
    }

    fn open(&self) -> Arc<dyn NodeLease> {
        Arc::new(self.database.leases(SqlLeaseOptions::default()))
    }

    async fn crash(&self, _holder: Arc<dyn NodeLease>, lease: &Lease) {
        self.database.expire(lease.node).await;
    }

    async fn steal(&self, lease: &Lease) -> (Arc<dyn NodeLease>, Lease) {
        let want = Reserve { layout: self.layout(), from_ms: 0, ahead: Duration::from_secs(10) };
        let thief = self.open();
        loop {
            self.database.expire(lease.node).await;
            let stolen = thief.acquire(want).await.unwrap();
            if stolen.node == lease.node {
                return (thief, stolen);
            }
        }
    }
}

mod sqlite {
    use super::Sql;

    zmsg_idgen::conformance!(Sql::sqlite().await);
}

mod postgres {
    use super::Sql;

    zmsg_idgen::conformance!(match Sql::postgres().await {
        Some(harness) => harness,
        None => return,
    });
}
