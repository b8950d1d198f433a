//! Ids: ours are UUIDs, those of asynq any text.

use uuid::Uuid;
use zmsg_core::TaskId;

/// The space of the ids that tasks of others have here.
const SPACE: Uuid = Uuid::from_u128(0x7a6d_7367_0000_5000_8000_6173_796e_7100);

/// The id of a task by its text in Redis: itself, if it is a UUID as it is written commonly, else one
/// that is made of the text (version 5), the same each time.
pub(super) fn id_of(text: &str) -> TaskId {
    match Uuid::try_parse(text) {
        Ok(id) if id.to_string() == text => TaskId(id),
        _ => TaskId(Uuid::new_v5(&SPACE, text.as_bytes())),
    }
}

/// Whether the text of this id may be another: it is kept then.
pub(super) fn may_be_named(id: TaskId) -> bool {
    id.0.get_version_num() == 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_text_or_made_of_it() {
        let own = TaskId::generate();
        assert_eq!(id_of(&own.0.to_string()), own);
        assert!(!may_be_named(own));
        for text in ["report:7", "", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"] {
            let id = id_of(text);
            assert_eq!(id, id_of(text));
            assert!(may_be_named(id) && id.0.to_string() != text, "{text}");
        }
    }
}
