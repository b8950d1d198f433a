//! After a kill: what was acknowledged must be there, and what is unknown is looked for.

use anyhow::{Context, Result, bail};
use zmsg::Zmsg;

use crate::args::Args;
use crate::check;
use crate::effect::Effect;
use crate::expected::Expected;
use crate::input::Stream;
use crate::progress::{self, Acknowledged, Past, Steps};
use crate::workload::Workload;

/// How far each task had come, with every unknown write settled by the tables. None if nothing had
/// been submitted.
///
/// The engine has recovered its journal when it is open, and what the queue still holds is waited
/// for. From then on no write of the killed process can take effect any more.
pub(crate) async fn settle(zmsg: &Zmsg, stream: &Stream, args: &Args) -> Result<Option<Vec<Past>>> {
    let directory = args.directory.as_deref().context("--resume needs --directory")?;
    let mut pasts = progress::read(directory, args)?;
    check::drained(zmsg).await?;
    zmsg.flush().await?;

    let workload = Workload::new(zmsg.clone(), args);
    let mut counted = Expected::default();
    let mut unknown: Vec<(usize, Effect)> = Vec::new();
    for (task, share) in Workload::shares(stream, args).into_iter().enumerate() {
        let steps = Steps::recount(task, pasts[task].clone());
        let (acknowledged, end) = workload.recount(task, share, steps).await;
        counted.merge(acknowledged);
        // A task without the error had come to the end of its share.
        if let Err(error) = end {
            let Acknowledged { unknown: effect } = error.downcast()?;
            unknown.extend(effect.map(|effect| (task, effect)));
        }
    }

    let found = check::tables(zmsg).await?;
    let mut took_effect = 0;
    for (task, effect) in &unknown {
        if effect.is_in(&found, &counted) {
            effect.count(&mut counted);
            pasts[*task].took_effect = true;
            took_effect += 1;
        }
    }
    let differences = check::of_tables(zmsg, &counted).await?;
    if !differences.is_empty() {
        check::show(&differences);
        bail!("{} differences between what was acknowledged and the tables", differences.len());
    }
    let acknowledged: u64 = pasts.iter().map(|past| past.acknowledged).sum();
    if acknowledged == 0 && unknown.is_empty() {
        return Ok(None);
    }
    println!(
        "going on after {acknowledged} acknowledged writes, all there; {} were under way, \
         {took_effect} of them took effect",
        unknown.len()
    );
    Ok(Some(pasts))
}
