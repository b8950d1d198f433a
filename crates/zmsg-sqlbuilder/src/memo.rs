//! Texts that were read before: an application has few different ones, and sends each of them often.

use std::cell::RefCell;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use zmsg_core::Result;

use crate::sql::Conflict;

/// How many texts each thread remembers. A new one takes the place of the one that has its slot.
const SLOTS: usize = 256;

/// Longer texts are read each time: what is remembered stays near a megabyte a thread at most.
const BYTES_MAX: usize = 2 << 10;

/// What a finished text depends on: equal ones finish alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Recipe<'a> {
    pub(crate) text: &'a str,
    pub(crate) binds: usize,
    pub(crate) conflict: Option<&'a Conflict>,
    pub(crate) returning: Option<&'a [String]>,
    pub(crate) all_rows: bool,
}

/// The text, and whether it gives rows.
pub(crate) type Finished = (String, bool);

/// A recipe of its own, and what comes of it.
struct Made {
    text: String,
    binds: usize,
    conflict: Option<Conflict>,
    returning: Option<Vec<String>>,
    all_rows: bool,
    finished: Finished,
}

thread_local! {
    static MADE: RefCell<Vec<Option<Made>>> = const { RefCell::new(Vec::new()) };
}

/// What this thread made of the recipe before, else what `make` makes of it now. Errors are not
/// remembered.
pub(crate) fn finished(
    recipe: Recipe<'_>,
    make: impl FnOnce() -> Result<Finished>,
) -> Result<Finished> {
    if recipe.text.len() > BYTES_MAX {
        return make();
    }
    let slot = FixedState::with_seed(0).hash_one(recipe) as usize % SLOTS;
    let known = MADE.try_with(|made| {
        let made = made.borrow();
        let made = made.get(slot)?.as_ref()?;
        (made.recipe() == recipe).then(|| made.finished.clone())
    });
    if let Ok(Some(finished)) = known {
        return Ok(finished);
    }
    let finished = make()?;
    if finished.0.len() <= BYTES_MAX {
        let made = Some(Made::new(recipe, finished.clone()));
        // A thread that ends remembers nothing any more.
        let _ = MADE.try_with(|slots| {
            let mut slots = slots.borrow_mut();
            slots.resize_with(SLOTS, || None);
            slots[slot] = made;
        });
    }
    Ok(finished)
}

impl Made {
    fn new(recipe: Recipe<'_>, finished: Finished) -> Self {
        Self {
            text: recipe.text.to_owned(),
            binds: recipe.binds,
            conflict: recipe.conflict.cloned(),
            returning: recipe.returning.map(<[String]>::to_vec),
            all_rows: recipe.all_rows,
            finished,
        }
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe {
            text: &self.text,
            binds: self.binds,
            conflict: self.conflict.as_ref(),
            returning: self.returning.as_deref(),
            all_rows: self.all_rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql;

    #[test]
    fn a_text_is_read_once_and_each_recipe_by_itself() {
        let insert = || sql("INSERT INTO feeds (id, data) VALUES (?, ?)", ("a", "b"));
        let texts = || {
            [
                insert().statement(),
                insert().on_conflict("id").do_nothing().statement(),
                insert().on_conflict("id").do_update("data").statement(),
                insert().on_conflict(["id", "data"]).do_nothing().statement(),
                insert().returning("*").statement(),
                insert().returning("id").statement(),
            ]
            .map(|statement| statement.map(|it| (it.text, it.returns_rows)).unwrap())
        };
        let first = texts();
        assert_eq!(texts(), first);
        for (at, one) in first.iter().enumerate() {
            assert!(!first[..at].contains(one), "{one:?}");
        }
    }

    #[test]
    fn what_is_remembered_lets_nothing_through() {
        let update = "UPDATE feeds SET data = ?";
        for _ in 0..2 {
            assert!(sql(update, ("a",)).statement().is_err());
            assert!(sql(update, ("a",)).all_rows().statement().is_ok());
            assert!(sql(update, ("a", "b")).all_rows().statement().is_err());
            assert!(sql(update, ("a",)).all_rows().overwrite().statement().is_err());
        }
    }

    #[test]
    fn texts_beyond_the_slots_and_the_size_are_read_each_time() {
        for _ in 0..2 {
            for number in 0..2 * SLOTS {
                let text = format!("SELECT a{number} FROM feeds WHERE id = ?");
                assert_eq!(sql(text.clone(), ("a",)).statement().unwrap().text, text);
            }
            let long = format!("SELECT '{}'", "x".repeat(2 * BYTES_MAX));
            assert_eq!(sql(long.clone(), ()).statement().unwrap().text, long);
        }
        let held = MADE.with_borrow(|made| made.iter().flatten().map(|it| it.text.len()).max());
        assert!(held.unwrap() <= BYTES_MAX);
    }

    #[test]
    fn a_text_that_is_known_is_not_made_again() {
        let recipe = Recipe {
            text: "SELECT 1 AS known",
            binds: 0,
            conflict: None,
            returning: None,
            all_rows: false,
        };
        let make = || Ok((recipe.text.to_owned(), true));
        let first = finished(recipe, make).unwrap();
        assert_eq!(finished(recipe, || panic!("it is known")).unwrap(), first);
        let refused = Recipe { binds: 1, ..recipe };
        for _ in 0..2 {
            let error = finished(refused, || Err(zmsg_core::Error::invalid_input("no")));
            assert!(error.is_err());
        }
    }
}
