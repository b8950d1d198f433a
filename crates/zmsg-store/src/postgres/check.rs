//! Checks that the server makes by itself: it refuses the transaction, and a COMMIT that is already
//! on its way behind the check becomes a rollback.

use crate::{Expect, Otherwise, Step};

/// Makes an error of every check that finds nothing: a division by zero, since SQL has nothing that
/// raises.
pub(super) fn by_the_server(steps: &mut [Step]) {
    for step in steps.iter_mut().filter(|step| is_check(step)) {
        // On a line of its own: the query may end with a comment. The server writes the text into
        // its log when it refuses.
        step.statement.text = format!(
            "SELECT 1 / (EXISTS (\n{}\n))::int /* a check of zmsg, refused by a division */",
            step.statement.text
        );
    }
}

/// Whether a step is one that the server decides.
pub(super) fn is_check(step: &Step) -> bool {
    step.expect == Expect::Found && matches!(step.otherwise, Otherwise::Abort(_))
}
