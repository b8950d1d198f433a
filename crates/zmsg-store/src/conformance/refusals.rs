//! Promises about what is refused, and how.

use zmsg_core::{ErrorKind, ErrorStatus, Statement};

use super::{Harness, ids, insert, with_things};
use crate::Step;

/// Data that the database refuses is `InvalidData` and not worth trying again.
pub async fn data_that_the_database_refuses_is_invalid_data(harness: &impl Harness) {
    let store = with_things(harness).await;
    store.execute(&insert(1, "a")).await.unwrap();
    let null = Statement::new("INSERT INTO things (id, note) VALUES (2, NULL)", vec![]);
    for refused in [insert(1, "twice"), insert(2, ""), null] {
        let error = store.execute(&refused).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.status()),
            (ErrorKind::InvalidData, ErrorStatus::Permanent)
        );
    }
    assert_eq!(ids(&store).await, [1]);
}

/// A statement that can never run is `InvalidInput`, from every call.
pub async fn a_statement_that_cannot_run_is_invalid_input(harness: &impl Harness) {
    let store = with_things(harness).await;
    for text in [
        "",
        "  ",
        "-- only a comment",
        "SELEC 1",
        "SELECT nothing FROM things",
        "SELECT \"nothing\" FROM things",
        "SELECT * FROM nowhere",
        "SELECT 1; SELECT 2",
        "SELECT 'open",
        "SELECT no_such_function(1)",
    ] {
        let statement = Statement::query(text, vec![]);
        for result in [
            store.fetch(&statement).await.map(drop),
            store.execute(&statement).await.map(drop),
            store
                .execute_all(vec![Step::any(statement.clone())])
                .await
                .map(drop)
                .map_err(|e| e.error),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text:?}: {error}");
            assert_eq!(error.status(), ErrorStatus::Permanent);
        }
    }
}

/// A statement whose placeholders and binds differ in number is refused.
pub async fn placeholders_and_binds_must_agree(harness: &impl Harness) {
    let store = with_things(harness).await;
    for (text, binds) in [
        ("DELETE FROM things WHERE id = ? AND note = ?", vec![1.into()]),
        ("DELETE FROM things WHERE id = ?", vec![1.into(), 2.into()]),
        ("DELETE FROM things WHERE note = '?'", vec![1.into()]),
        ("DELETE FROM things WHERE id = ?1", vec![1.into()]),
        ("DELETE FROM things WHERE id = :id", vec![1.into()]),
    ] {
        let error = store.execute(&Statement::new(text, binds)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
    }
}

/// `fetch` refuses every statement that would write.
pub async fn fetch_refuses_to_write(harness: &impl Harness) {
    let store = with_things(harness).await;
    store.execute(&insert(1, "a")).await.unwrap();
    for text in [
        "INSERT INTO things (id, note) VALUES (2, 'b')",
        "INSERT INTO things (id, note) VALUES (2, 'b') RETURNING id",
        "UPDATE things SET note = 'x'",
        "DELETE FROM things",
        "CREATE TABLE more (id INTEGER)",
        "DROP TABLE things",
    ] {
        let error = store.fetch(&Statement::query(text, vec![])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}: {error}");
    }
    assert_eq!(ids(&store).await, [1]);
}

/// Transactions belong to the store: no statement begins or ends one, by any call.
pub async fn transaction_control_is_refused(harness: &impl Harness) {
    let store = with_things(harness).await;
    for text in [
        "BEGIN",
        "COMMIT",
        "/* by the way */ commit",
        "END",
        "ROLLBACK",
        "SAVEPOINT s",
        "RELEASE s",
        "ROLLBACK TO s",
    ] {
        let control = Statement::new(text, vec![]);
        let steps = vec![Step::any(insert(1, "a")), Step::any(control.clone())];
        let failed = store.execute_all(steps).await.unwrap_err();
        assert_eq!(failed.error.kind(), ErrorKind::InvalidInput, "{text}: {failed}");
        assert_eq!(store.execute(&control).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(store.fetch(&control).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(ids(&store).await.is_empty(), "{text} committed a half");
    }
}

/// The text of an error never shows a bind.
pub async fn errors_never_show_binds(harness: &impl Harness) {
    let store = with_things(harness).await;
    let secret = "s3cret-value";
    store.execute(&insert(1, secret)).await.unwrap();
    let mut wrong_type = insert(2, secret);
    wrong_type.binds[0] = secret.into();
    let no_table = Statement::new("DELETE FROM nowhere WHERE id = ?", vec![secret.into()]);
    let one_too_many = Statement::new("SELECT ?", vec![secret.into(), secret.into()]);
    for statement in [insert(1, secret), wrong_type, no_table, one_too_many] {
        let error = store.execute(&statement).await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}
