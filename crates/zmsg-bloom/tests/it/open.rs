//! The filter that rules nothing out, against the suite.

use std::sync::Arc;

use zmsg_bloom::conformance::Harness;
use zmsg_bloom::{MembershipFilter, OpenFilter};

struct Open;

impl Harness for Open {
    async fn filter(&self, _capacity: u64) -> Arc<dyn MembershipFilter> {
        Arc::new(OpenFilter)
    }

    fn rules_out(&self) -> bool {
        false
    }
}

zmsg_bloom::conformance!(Open);
