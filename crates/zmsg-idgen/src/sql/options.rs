//! How nodes are leased in a database.

use std::time::Duration;

use zmsg_core::{Error, Result};

/// The options of a [`SqlLease`](super::SqlLease). How far ahead time is reserved is the
/// generator's business: [`IdOptions::reserve_ahead`](crate::IdOptions::reserve_ahead).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlLeaseOptions {
    /// The processes that share one pool of nodes, and whose ids must differ. Default `zmsg`.
    pub cluster: String,
    /// How long a node stays with a holder that is not heard of. A crashed process keeps its node
    /// this long, and a database that is away for longer costs every holder its node, at no risk
    /// to ids. Default 30 s, from 100 ms to 1 h.
    pub lease: Duration,
    /// How long a node rests between the end of a lease and the next holder. Default 5 s, up to
    /// 1 h.
    pub grace: Duration,
    /// How long leasing, renewing or giving back a node may take before it is given up; it may
    /// then have taken effect, which does no harm. Default 5 s.
    pub request_timeout: Duration,
    /// Who holds a node, for people who look at the table. Default: the number of the process.
    pub holder: String,
}

impl SqlLeaseOptions {
    /// The shortest lease.
    pub const LEASE_MIN: Duration = Duration::from_millis(100);

    /// The longest lease, and the longest grace.
    pub const LEASE_MAX: Duration = Duration::from_secs(3_600);

    /// The longest name of a cluster and of a holder, in bytes.
    pub const NAME_BYTES_MAX: usize = 255;

    pub(super) fn validate(&self) -> Result<()> {
        let problem = if self.cluster.is_empty() || self.cluster.len() > Self::NAME_BYTES_MAX {
            "the name of a cluster of id nodes has 1 to 255 bytes"
        } else if self.holder.len() > Self::NAME_BYTES_MAX {
            "the name of the holder of an id node has at most 255 bytes"
        } else if self.cluster.contains('\0') || self.holder.contains('\0') {
            "the names of a cluster and of a holder of id nodes have no NUL"
        } else if !(Self::LEASE_MIN..=Self::LEASE_MAX).contains(&self.lease) {
            "the lease of an id node lasts from 100 ms to 1 h"
        } else if self.grace > Self::LEASE_MAX {
            "the grace after the lease of an id node lasts up to 1 h"
        } else if self.request_timeout.is_zero() {
            "requests for id nodes need some time"
        } else {
            return Ok(());
        };
        Err(Error::invalid_config(problem)
            .with_context("cluster", &self.cluster)
            .with_context("lease", format!("{:?}", self.lease))
            .with_context("grace", format!("{:?}", self.grace)))
    }
}

impl Default for SqlLeaseOptions {
    fn default() -> Self {
        Self {
            cluster: String::from("zmsg"),
            lease: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            holder: format!("process {}", std::process::id()),
        }
    }
}
