//! Several tasks that write, one write after the other each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fastrand::Rng;
use tokio::task::JoinSet;
use zmsg::Zmsg;

use crate::args::Args;
use crate::report::line;
use crate::write::{Kind, Write};

/// Writes until all writes are made.
pub(crate) async fn run(args: &Args, zmsg: &Zmsg) {
    let next = Arc::new(AtomicU64::new(args.first));
    let end = args.first + args.writes;
    let mut tasks = JoinSet::new();
    for task in 0..args.tasks {
        let random = Rng::with_seed(args.seed.wrapping_mul(31).wrapping_add(task));
        tasks.spawn(write(zmsg.clone(), args.mix, Arc::clone(&next), end, task, random));
    }
    while tasks.join_next().await.is_some() {}
}

async fn write(
    zmsg: Zmsg,
    mix: crate::args::Mix,
    next: Arc<AtomicU64>,
    end: u64,
    task: u64,
    mut random: Rng,
) {
    let mut victim = None;
    loop {
        let op = next.fetch_add(1, Relaxed);
        if op >= end {
            return;
        }
        let kind = Kind::draw(mix, &mut random, victim.is_some());
        let write = Write::new(op, kind, victim.take_if(|_| kind == Kind::DelayedEnd), &mut random);
        line(format_args!("S {op} {} {} {task}", kind.name(), write.row));
        match write.send(&zmsg, &mut random).await {
            Ok(receipt) => {
                line(format_args!("A {op} {:?}", receipt.level()));
                if kind == Kind::StoreVictim {
                    victim = Some(op);
                } else if kind == Kind::StoreOwn {
                    read(&zmsg, op).await;
                }
            }
            Err(error) => line(format_args!("E {op} {error}")),
        }
        if random.u64(..8) == 0
            && let Ok(id) = zmsg.next_id("x").await
        {
            line(format_args!("I {id}"));
        }
    }
}

/// What was just stored is seen.
async fn read(zmsg: &Zmsg, op: u64) {
    let found = zmsg.get(format!("op_{op}")).await;
    if !matches!(&found, Ok(Some(value)) if value == "1") {
        line(format_args!("W op_{op} was stored and is read as {found:?}"));
    }
}
