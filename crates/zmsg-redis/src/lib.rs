//! One shared way to Redis for all parts of zmsg that need it.
