//! Dead letters are listed, retried and dropped.

use zmsg::{DeadLetterId, counter, sql};

use crate::support::{Engine, eventually};

async fn one_of_each(engine: &Engine) -> Vec<zmsg::DeadLetter> {
    let orphan = counter("feeds", "likes").inc(7).where_eq("id", "feed_late");
    let _ = engine.zmsg.cache_and_periodic_store("feed_late", None, orphan).await.unwrap();
    engine.zmsg.flush().await.unwrap();
    let failing = sql("INSERT INTO missing_table (id) VALUES (?)", ("x",));
    let receipt = engine.zmsg.cache_and_delay_store("other_1", "x", failing).await.unwrap();
    receipt.applied().await.unwrap_err();
    let dead = engine.zmsg.dead_letters().list(10).await.unwrap();
    assert_eq!(dead.len(), 2, "{dead:?}");
    dead
}

#[tokio::test]
async fn a_dead_letter_is_retried_once_its_cause_is_mended() {
    let engine = Engine::open().await;
    let dead = one_of_each(&engine).await;
    let letters = engine.zmsg.dead_letters();
    assert!(letters.retry(dead[0].id).await.is_err(), "its row is still missing");
    engine.insert("feed_late", "here now").await;
    engine.zmsg.sql_exec(sql("CREATE TABLE missing_table (id TEXT)", ())).await.unwrap();
    for letter in &dead {
        assert!(letters.retry(letter.id).await.unwrap(), "{letter:?}");
    }
    assert_eq!(engine.likes("feed_late").await, 7);
    eventually("the delayed one was applied", || async {
        engine.count("SELECT count(*) FROM missing_table").await == 1
    })
    .await;
    assert!(letters.list(10).await.unwrap().is_empty());
    assert!(!letters.retry(dead[0].id).await.unwrap(), "it is gone");
}

#[tokio::test]
async fn a_dropped_dead_letter_is_gone() {
    let engine = Engine::open().await;
    let letters = engine.zmsg.dead_letters();
    for letter in one_of_each(&engine).await {
        assert!(letters.drop(letter.id).await.unwrap());
        assert!(!letters.drop(letter.id).await.unwrap());
    }
    assert!(letters.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dead_letter_id_is_written_and_read_the_same_way() {
    let engine = Engine::open().await;
    for letter in one_of_each(&engine).await {
        assert_eq!(letter.id.to_string().parse::<DeadLetterId>().unwrap(), letter.id);
    }
    for wrong in ["", "periodic", "periodic:x", "delayed:7", "other:1"] {
        assert!(wrong.parse::<DeadLetterId>().is_err(), "{wrong}");
    }
}
