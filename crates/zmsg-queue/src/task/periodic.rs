//! Tasks that come again and again, each time once however many nodes run the same schedule.

mod firing; // start here: what a queue is offered
mod schedule;
#[cfg(feature = "cron")]
mod calendar;
#[cfg(feature = "cron")]
#[cfg(test)]
mod calendar_tests;
mod entry;
mod watch;
mod agenda;
#[cfg(feature = "redis")]
mod fired;
mod run;

pub use self::agenda::{Agenda, PeriodicEntry};
pub use self::entry::{Missed, PeriodicTask};
pub use self::firing::Firing;
pub use self::run::PeriodicTasks;
pub use self::schedule::Schedule;
