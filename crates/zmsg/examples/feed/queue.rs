//! Which task queue the run is on.

use uuid::Uuid;
use zmsg::{Config, QueueBackend, Secret};

use crate::args::Queue;

/// By this the processes of a run learn of the key that one of them made.
pub(crate) const SECRET: &str = "ZMSG__QUEUE__SECRET";

/// Puts the tasks where the arguments say. In Redis they are signed: without a key in the configuration
/// this run makes one, which is good for its own tasks alone.
pub(crate) fn choose(config: &mut Config, wanted: Queue) {
    config.queue.backend = match wanted {
        Queue::Auto if config.queue.backend == QueueBackend::Sql && config.redis.url.is_some() => {
            QueueBackend::Redis
        }
        Queue::Auto => config.queue.backend,
        Queue::Sql => QueueBackend::Sql,
        Queue::Redis => QueueBackend::Redis,
        Queue::Outbox => QueueBackend::Outbox,
    };
    let queue = &mut config.queue;
    let has_none = queue.secret.is_none() && queue.secret_file.is_none();
    if queue.backend == QueueBackend::Redis && has_none {
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        queue.secret = Some(Secret::new(secret));
    }
}
