//! SQLite's own parser agrees: with the number of binds, with quoted names, with where a
//! statement ends.

use rusqlite::Connection;
use zmsg_core::Statement;
use zmsg_sqlbuilder::{Dialect, condition, counter, render, split_script, sql};

fn memory() -> Connection {
    Connection::open_in_memory().unwrap()
}

fn parameters(connection: &Connection, text: &str, binds: usize) -> usize {
    let text = render(text, binds, Dialect::Sqlite).unwrap();
    connection.prepare(&text).unwrap_or_else(|error| panic!("{text}: {error}")).parameter_count()
}

#[test]
fn it_counts_the_same_binds() {
    let connection = memory();
    connection.execute_batch("CREATE TABLE t (id, \"a?\", n)").unwrap();
    for (text, binds) in [
        ("SELECT '?', \"a?\", [a?], `a?` /* ? */ FROM t WHERE id = ? -- ?", 1),
        ("SELECT x'00', ?||?, -? FROM t WHERE id IS NOT ?", 4),
        ("SELECT n FROM t WHERE id NOT GLOB ? OR id LIKE ? ESCAPE ?", 3),
        ("SELECT n FROM t WHERE n BETWEEN ? AND ? ORDER BY n LIMIT ? OFFSET ?", 4),
        ("SELECT CASE ? WHEN ? THEN ? ELSE ? END", 4),
        ("INSERT INTO t VALUES (?, ?, ?) ON CONFLICT DO NOTHING", 3),
        ("SELECT n FROM t WHERE n = ? LIMIT?OFFSET?", 3),
    ] {
        assert_eq!(parameters(&connection, text, binds), binds, "{text}");
    }
}

#[test]
fn it_accepts_what_on_conflict_and_returning_append() {
    let connection = memory();
    connection
        .execute_batch("CREATE TABLE t (\"i\"\"d?\" PRIMARY KEY, data); CREATE TABLE u (a, b)")
        .unwrap();
    for text in ["INSERT INTO t VALUES (1, 2); -- end", "INSERT INTO t SELECT a, b FROM u"] {
        let builder = || sql(text, ()).on_conflict("i\"d?");
        for built in [builder().do_update(["data"]), builder().do_nothing()] {
            let Statement { text, binds, .. } = built.returning(["i\"d?"]).statement().unwrap();
            assert_eq!(parameters(&connection, &text, binds.len()), 0);
        }
    }
}

#[test]
fn it_reads_the_names_that_were_given() {
    let connection = memory();
    for name in ["\"; DROP TABLE t; --", "a\"b", "/* c */", "$$", "?", "列", "]", "`", " "] {
        let op = counter(name, "n").inc(1).where_eq(name, 1).op().unwrap();
        let (mut table, mut column) = (String::new(), String::new());
        op.table.write_quoted(&mut table);
        op.column.write_quoted(&mut column);
        let create = format!("CREATE TABLE {table} ({column} INTEGER, {table} INTEGER)");
        connection.execute_batch(&create).unwrap();
        let (condition, binds) = condition(&op.condition).unwrap();
        let update = format!("UPDATE {table} SET {column} = 1 WHERE {condition}");
        assert_eq!(parameters(&connection, &update, binds.len()), 1, "{name:?}");
        let known: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_master WHERE name = ?", [name], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(known, 1, "{name:?}");
    }
}

#[test]
fn it_runs_every_statement_of_a_script_alone() {
    let connection = memory();
    let script = "
        CREATE TABLE t (id INTEGER, note TEXT DEFAULT 'a; -- b'); -- first; table
        CREATE TABLE counts (n INTEGER); INSERT INTO counts VALUES (0);
        /* a; /* b; */
        CREATE TRIGGER t_insert AFTER INSERT ON t BEGIN
            UPDATE counts SET n = CASE WHEN n < 9 THEN n + 1 ELSE n END; -- one; more
            INSERT INTO counts SELECT n FROM counts WHERE 0;
        END;
        CREATE TABLE [odd; name] (a);
        INSERT INTO t (id) VALUES (1);;";
    let statements = split_script(script, Dialect::Sqlite).unwrap();
    assert_eq!(statements.len(), 6);
    for statement in &statements {
        connection.prepare(statement).unwrap().execute([]).unwrap();
    }
    let (n, note): (i64, String) = connection
        .query_row("SELECT n, note FROM counts, t", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((n, note.as_str()), (1, "a; -- b"));
}
