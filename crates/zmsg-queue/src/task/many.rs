//! Many tasks of which each has an answer of its own.

use zmsg_core::{Error, ErrorKind, Result};

use super::queue::TaskQueue;
use super::record::{Enqueued, NewTask};

/// Tasks of one call at most: a script or a transaction is not to hold up others for long.
const PART: usize = 1_000;

/// Offers the tasks together; where that is refused, in halves, until those are alone that are to blame.
pub(super) async fn enqueue_each<Q>(queue: &Q, tasks: Vec<NewTask>) -> Vec<Result<Enqueued>>
where
    Q: TaskQueue + ?Sized,
{
    let mut answers = Vec::with_capacity(tasks.len());
    let (mut places, mut good) = (Vec::new(), Vec::new());
    for (place, task) in tasks.into_iter().enumerate() {
        let checked = task.check();
        if checked.is_ok() {
            places.push(place);
            good.push(task);
        }
        answers.push(checked.and_then(|()| Err(unanswered())));
    }
    let offered = offer_in_parts(queue, good).await;
    places.into_iter().zip(offered).for_each(|(place, answer)| answers[place] = answer);
    answers
}

async fn offer_in_parts<Q>(queue: &Q, tasks: Vec<NewTask>) -> Vec<Result<Enqueued>>
where
    Q: TaskQueue + ?Sized,
{
    let mut answers = Vec::with_capacity(tasks.len());
    // The next one last.
    let mut parts: Vec<Vec<NewTask>> = tasks.chunks(PART).rev().map(<[_]>::to_vec).collect();
    let mut is_full = false;
    let mut away: Option<Error> = None;
    while let Some(mut part) = parts.pop() {
        // Those behind would overtake the ones before, and wait for nothing.
        if let Some(error) = &away {
            answers.extend(part.iter().map(|_| Err(error.clone())));
            continue;
        }
        let refused = match queue.enqueue_all(part.clone()).await {
            Ok(of_part) => {
                answers.extend(of_part.into_iter().map(Ok));
                continue;
            }
            Err(refused) => refused,
        };
        let is_bound = refused.kind() == ErrorKind::Overloaded;
        // Once a single task has found no room, what is left is not tried one by one.
        if part.len() == 1 || !may_be_for_one(&refused) || (is_bound && is_full) {
            is_full |= is_bound;
            answers.extend(part.iter().map(|_| Err(refused.clone())));
            away = is_of_the_queue(&refused).then_some(refused);
            continue;
        }
        let behind = part.split_off(part.len() / 2);
        parts.extend([behind, part]);
    }
    answers
}

/// Whether fewer tasks, or others, might have been taken.
fn may_be_for_one(refused: &Error) -> bool {
    use ErrorKind::{InvalidData, InvalidInput, Overloaded, Unsupported};
    let kinds = [InvalidData, InvalidInput, Overloaded, Unsupported];
    kinds.contains(&refused.kind()) && !refused.is_outcome_unknown()
}

/// Whether the queue is away, or nobody knows what became of the tasks.
fn is_of_the_queue(refused: &Error) -> bool {
    use ErrorKind::{Closed, Timeout, Unavailable};
    [Closed, Timeout, Unavailable].contains(&refused.kind()) || refused.is_outcome_unknown()
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Unexpected, "the queue did not say what came of a task").outcome_unknown()
}
