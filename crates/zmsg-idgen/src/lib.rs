//! Snowflake ids by reservation, and the leases of their node numbers.
