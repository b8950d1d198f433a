//! What happens to PostgreSQL.

use std::time::Duration;

use anyhow::{Result, ensure};
use zmsg_testbed::Repeat;
use zmsg_testbed::private::until;

use super::servers::Servers;
use super::sql::Sql;
use super::stage::{Stage, last};

const SECOND: Duration = Duration::from_secs(1);

/// What PostgreSQL answers to a commit.
pub(super) const COMMITTED: &[u8] = b"COMMIT\0";

/// What it logs of a deadlock, and of a failure that our trigger forced.
const DEADLOCK: &str = "ERROR:  deadlock detected";
const FORCED: &str = "ERROR:  forced";

pub(super) fn killed(stage: &mut Stage<'_>) -> Result<String> {
    stage.reached(30)?;
    stage.servers.postgres.kill();
    last(SECOND);
    stage.servers.postgres.restart();
    stage.reached(60)?;
    stage.servers.postgres.kill();
    stage.servers.postgres.restart();
    Ok("killed twice".into())
}

pub(super) fn stopped(stage: &mut Stage<'_>) -> Result<String> {
    stage.reached(40)?;
    stage.servers.postgres.stop();
    last(SECOND);
    stage.servers.postgres.restart();
    Ok("stopped once".into())
}

pub(super) fn paused(stage: &mut Stage<'_>) -> Result<String> {
    stage.reached(40)?;
    stage.servers.postgres.pause();
    last(2 * SECOND);
    stage.servers.postgres.resume();
    Ok("paused for 2 s".into())
}

pub(super) fn reset(stage: &mut Stage<'_>) -> Result<String> {
    let proxy = &stage.servers.before_postgres;
    let before = proxy.counts().reset;
    stage.at_every_tenth(|stage| {
        stage.servers.before_postgres.reset_all();
        Ok(())
    })?;
    let count = proxy.counts().reset - before;
    ensure!(count > 0, "no connection was reset");
    Ok(format!("{count} connections reset"))
}

pub(super) fn cut(stage: &mut Stage<'_>) -> Result<String> {
    let proxy = &stage.servers.before_postgres;
    let before = proxy.counts().cut;
    stage.at_every_tenth(|stage| {
        // No answer is so short that its end would always lie at this place.
        stage.servers.before_postgres.cut_answer_after(997);
        Ok(())
    })?;
    stage.reached(85)?;
    let count = proxy.counts().cut - before;
    ensure!(count > 0, "no answer was cut");
    Ok(format!("{count} answers cut"))
}

pub(super) fn commit_lost(stage: &mut Stage<'_>) -> Result<String> {
    let proxy = &stage.servers.before_postgres;
    let before = proxy.counts().swallowed;
    stage.reached(10)?;
    proxy.swallow_answer(COMMITTED, Repeat::Every(25));
    stage.reached(85)?;
    proxy.swallow_nothing();
    let count = proxy.counts().swallowed - before;
    ensure!(count > 0, "no answer to a commit was lost");
    Ok(format!("{count} answers to commits lost"))
}

pub(super) fn terminated(stage: &mut Stage<'_>) -> Result<String> {
    let storm = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name <> 'faults'";
    stage.reached(20)?;
    let mut count = 0;
    for _ in 0..20 {
        count += stage.sql.number(storm)?;
        last(SECOND / 10);
    }
    ensure!(count > 0, "no backend was terminated");
    Ok(format!("{count} backends terminated"))
}

/// Holds the rarer users until somebody, who has locked frequent ones on the way up, waits for
/// them; then wants the frequent ones. The other is the victim: we wait longer.
pub(super) fn deadlocks(stage: &mut Stage<'_>) -> Result<String> {
    let upper = "BEGIN; SELECT 1 FROM users WHERE id > 50 ORDER BY id DESC FOR UPDATE";
    let lower = "SELECT 1 FROM users WHERE id <= 50 ORDER BY id DESC FOR UPDATE";
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))";
    let before = log_lines(stage, DEADLOCK);
    stage.reached(15)?;
    stage.sql.run("SET deadlock_timeout = '20s'")?;
    for _ in 0..12 {
        stage.sql.run(upper)?;
        let mut looked = Ok(0);
        until(SECOND, || {
            looked = stage.sql.number(waiting);
            !matches!(looked, Ok(0))
        });
        looked?;
        stage.sql.run(lower)?;
        stage.sql.run("COMMIT")?;
    }
    let count = log_lines(stage, DEADLOCK) - before;
    ensure!(count > 0, "there was no deadlock");
    Ok(format!("{count} deadlocks"))
}

pub(super) fn make_serializable(_: &Servers, sql: &mut Sql) -> Result<()> {
    sql.run(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = \
         serializable', current_database()); END $$",
    )
}

/// The engine chooses its own level, so nothing has to fail.
pub(super) fn serializable(stage: &mut Stage<'_>) -> Result<String> {
    let default = "SELECT count(*) FROM pg_settings WHERE name = 'default_transaction_isolation' \
                   AND setting = 'serializable'";
    stage.reached(50)?;
    ensure!(stage.sql.number(default)? == 1, "the default is another");
    Ok("serializable by default".into())
}

pub(super) fn serialization_failures(stage: &mut Stage<'_>) -> Result<String> {
    let before = log_lines(stage, FORCED);
    stage.reached(10)?;
    stage.sql.run(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF random() < 0.02 THEN RAISE EXCEPTION 'forced' USING ERRCODE = '40001'; END IF; \
         RETURN NULL; END $$",
    )?;
    let tables = ["users", "messages", "conversations"];
    for table in tables {
        stage.sql.run(&format!(
            "CREATE TRIGGER fail BEFORE INSERT OR UPDATE OR DELETE ON {table} \
             FOR EACH STATEMENT EXECUTE FUNCTION fail()"
        ))?;
    }
    stage.reached(85)?;
    for table in tables {
        stage.sql.run(&format!("DROP TRIGGER fail ON {table}"))?;
    }
    let count = log_lines(stage, FORCED) - before;
    ensure!(count > 0, "no statement was failed");
    Ok(format!("{count} serialization failures"))
}

/// Lines of the server's log that contain this.
fn log_lines(stage: &Stage<'_>, text: &str) -> usize {
    stage.servers.postgres.log().matches(text).count()
}
