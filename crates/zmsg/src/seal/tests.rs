//! What is signed is opened, and nothing else.

use uuid::Uuid;
use zmsg_store::Step;

use super::*;
use crate::codec::Kind;

const NOW: UnixMillis = 1_800_000_000_000;
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn secret(letter: char) -> Secret {
    Secret::new(letter.to_string().repeat(SECRET_BYTES_MIN))
}

fn envelope(key: char, previous: Option<char>) -> Envelope {
    let previous = previous.map(secret);
    Envelope::Signed(Arc::new(Seal::new(&secret(key), previous.as_ref(), WEEK).unwrap()))
}

fn payload() -> Payload {
    let statement = zmsg_core::Statement::new(
        "UPDATE t SET n = ? WHERE id = ?",
        vec![7_i64.into(), "t_1".into()],
    );
    Payload::Write { keys: vec!["t_1".into()], steps: vec![Step::any(statement).into()] }
}

fn task() -> NewTask {
    let id = TaskId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
    NewTask::new(id, Kind::Update.name(), codec::encode(&payload()).unwrap()).queue("a:default")
}

fn leased(task: &NewTask) -> LeasedTask {
    LeasedTask {
        id: task.id,
        queue: task.queue.clone(),
        kind: task.kind.clone(),
        payload: task.payload.clone(),
        attempt: 1,
        attempts_max: 3,
        attempts_spared: 0,
        lease_until: 0,
        created: 0,
        timeout: None,
        deadline: None,
        lane: None,
        retention: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The task above, signed by version 0.1.0 with a key of 32 times `k`, accepted at [`NOW`]. Never
/// change it: tasks like this one wait in Redis.
const FIXTURE: &str = "02000001a3185c5000776d5ca1f8b79bb086be8ca8316c81c513907e8d884d0b3f7b6d7325158501200100\
    0103745f31011f555044415445207420534554206e203d203f205748455245206964203d203f02020e0403\
    745f31000000000100";

#[test]
fn a_signed_task_of_every_version_stays_readable() {
    let envelope = envelope('k', None);
    let written = envelope.close(task(), NOW);
    assert_eq!(hex(&written.payload), FIXTURE);
    let stored = NewTask { payload: bytes(FIXTURE).into(), ..task() };
    assert_eq!(envelope.open(&leased(&stored), NOW).unwrap(), payload());
}

/// The signature of the fixture by `openssl dgst -sha256 -mac HMAC`.
const BY_OPENSSL: &str = "776d5ca1f8b79bb086be8ca8316c81c513907e8d884d0b3f7b6d732515850120";

#[test]
fn the_signature_is_an_hmac_sha256_of_domain_moment_id_names_and_payload() {
    let stored = bytes(FIXTURE);
    let sealed = Sealed::read(&stored).unwrap();
    assert_eq!(hex(sealed.signature), BY_OPENSSL);
}

#[test]
fn every_byte_and_every_part_of_a_task_is_signed() {
    let envelope = envelope('k', None);
    let good = leased(&envelope.close(task(), NOW));
    let is_refused = |task: &LeasedTask| {
        let error = envelope.open(task, NOW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupted, "{error}");
        assert!(!error.is_temporary(), "it is a dead letter at once");
    };
    for at in 0..good.payload.len() {
        for bit in [0x01, 0x80] {
            let mut changed = good.payload.to_vec();
            changed[at] ^= bit;
            is_refused(&LeasedTask { payload: changed.into(), ..good.clone() });
        }
        is_refused(&LeasedTask { payload: good.payload.slice(..at), ..good.clone() });
    }
    is_refused(&LeasedTask { id: TaskId::generate(), ..good.clone() });
    is_refused(&LeasedTask { queue: "b:default".into(), ..good.clone() });
    is_refused(&LeasedTask { kind: Kind::Delete.name().into(), ..good.clone() });
    // A letter that moves from one name to the other changes neither together.
    let (queue, kind) = ("a:defaul".into(), format!("t{}", good.kind));
    is_refused(&LeasedTask { queue, kind, ..good.clone() });
    assert_eq!(envelope.open(&good, NOW).unwrap(), payload());
}

#[test]
fn a_task_without_a_signature_is_refused_where_tasks_have_one() {
    let error = envelope('k', None).open(&leased(&task()), NOW).unwrap_err();
    assert!(error.kind() == ErrorKind::Corrupted && error.to_string().contains("signature"));
}

#[test]
fn what_waits_in_a_queue_of_the_database_stays_readable() {
    assert_eq!(Envelope::Plain.open(&leased(&task()), NOW).unwrap(), payload());
    assert_eq!(Envelope::Plain.close(task(), NOW), task());
    let signed = envelope('k', None).close(task(), NOW);
    let error = Envelope::Plain.open(&leased(&signed), NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupted);
}

#[test]
fn keys_are_changed_without_losing_a_task() {
    let old = leased(&envelope('o', None).close(task(), NOW));
    let new = leased(&envelope('n', Some('o')).close(task(), NOW));
    // First all nodes learn of the new key, then they sign with it, then they forget the old one.
    for (key, previous) in [('o', Some('n')), ('n', Some('o'))] {
        for task in [&old, &new] {
            assert_eq!(envelope(key, previous).open(task, NOW).unwrap(), payload());
        }
    }
    assert!(envelope('n', None).open(&new, NOW).is_ok());
    assert!(envelope('n', None).open(&old, NOW).is_err());
    assert!(envelope('o', None).open(&new, NOW).is_err());
}

#[test]
fn a_task_that_is_older_than_the_inbox_remembers_is_refused() {
    let envelope = envelope('k', None);
    let good = leased(&envelope.close(task(), NOW));
    let week = u64::try_from(WEEK.as_millis()).unwrap();
    assert!(envelope.open(&good, NOW + week - 1).is_ok());
    let error = envelope.open(&good, NOW + week).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("queue.inbox_retention"), "{error}");
    assert!(envelope.open(&good, NOW - 5_000).is_ok(), "a clock that is behind is no reason");
}

#[test]
fn a_short_key_is_refused_and_no_key_is_shown() {
    let error = Seal::new(&Secret::new("k".repeat(31)), None, WEEK).unwrap_err();
    assert!(error.to_string().contains("queue.secret"), "{error}");
    assert!(!format!("{:?}", envelope('k', Some('p'))).contains("kkk"));
}

#[test]
fn a_dead_letter_that_is_not_ours_is_shown_and_not_decoded() {
    let dead = |task: NewTask| DeadTask {
        id: task.id,
        queue: task.queue,
        kind: task.kind,
        payload: task.payload,
        attempts: 1,
        cause: String::new(),
        created: 0,
        died: 0,
    };
    let envelope = envelope('k', None);
    let ours = envelope.summary(&dead(envelope.close(task(), NOW)));
    assert_eq!(ours, "zmsg:update t_1: UPDATE t SET n = ? WHERE id = ?");
    // A write whose bind is an array in an array and so on: whoever decodes it runs out of stack.
    let mut deep = vec![1, 0, 0, 1, 0, 1];
    deep.extend([9, 1].repeat(1_000_000));
    let forged = NewTask { payload: deep.into(), kind: "a\u{1b}[2Jb".into(), ..task() };
    let shown = envelope.summary(&dead(forged));
    assert!(shown.contains("without a signature") && !shown.contains('\u{1b}'), "{shown}");
}
