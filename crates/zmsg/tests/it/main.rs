//! The engine as an application sees it, on its embedded default.

mod support;
mod reads;
mod store_route;
mod delayed_route;
mod periodic_route;
mod sources;
mod filter;
mod raw_sql;
mod dead_letters;
mod migrations;
mod faults;
mod closing;
mod kills;
mod documents;
