//! One script for many keys.

use std::slice;

use futures_util::{StreamExt, stream};
use redis::{FromRedisValue, Pipeline, RedisResult, ToRedisArgs, Value};
use zmsg_core::{Error, ErrorKind, Result};

use crate::client::{read, send_pipeline};
use crate::failure::{Effect, Failure, is_unknown_script};
use crate::{HistoryScript, Redis, RedisKey, Topology, history};

/// How many calls go in one round trip: as many as Redis answers well within a deadline.
const PIPELINE_MAX: usize = 1000;

/// How many calls to a cluster are under way at a time.
const CALLS_AT_ONCE: usize = 64;

impl Redis {
    /// Runs a [`history_script!`](crate::history_script) once for each of these keys, with the same
    /// arguments: in one round trip, and within one deadline, for each 1,000 of them; in a cluster
    /// each by itself. The answers are in the order of the keys.
    ///
    /// # Errors
    /// For each key as for [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the script run for any of the keys.
    pub async fn script_each<T: FromRedisValue>(
        &self,
        script: &HistoryScript,
        keys: &[RedisKey],
        args: &(impl ToRedisArgs + Sync),
    ) -> Vec<Result<T>> {
        if matches!(self.options().topology, Topology::Cluster(_)) {
            let one = |key| self.script_in_history(script, slice::from_ref(key), args);
            let calls: Vec<_> = keys.iter().map(one).collect();
            return stream::iter(calls).buffered(CALLS_AT_ONCE).collect().await;
        }
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(PIPELINE_MAX) {
            match self.send_each(script, keys, args).await {
                Ok(chunk) => answers.extend(chunk.into_iter().map(read_own)),
                Err(error) => answers.extend(keys.iter().map(|_| Err(error.clone()))),
            }
        }
        answers
    }

    async fn send_each(
        &self,
        script: &HistoryScript,
        keys: &[RedisKey],
        args: &(impl ToRedisArgs + Sync),
    ) -> Result<Vec<RedisResult<Value>>> {
        let mut answers = self.send_all(script, keys, args, false).await?;
        let is_unknown =
            |answer: &RedisResult<Value>| answer.as_ref().is_err_and(is_unknown_script);
        let unknown: Vec<usize> = (0..answers.len()).filter(|&i| is_unknown(&answers[i])).collect();
        if !unknown.is_empty() {
            let keys: Vec<RedisKey> = unknown.iter().map(|&index| keys[index].clone()).collect();
            let again = self.send_all(script, &keys, args, true).await?;
            for (index, answer) in unknown.into_iter().zip(again) {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }

    /// One answer for each key. The text of the script goes before, if Redis does not know it.
    async fn send_all(
        &self,
        script: &HistoryScript,
        keys: &[RedisKey],
        args: &(impl ToRedisArgs + Sync),
        with_text: bool,
    ) -> Result<Vec<RedisResult<Value>>> {
        let send = async |link, present| {
            let args = (history::bytes(&present), args);
            let mut pipeline = Pipeline::with_capacity(keys.len());
            pipeline.ignore_errors();
            for (index, key) in keys.iter().map(slice::from_ref).enumerate() {
                let by_text = with_text && index == 0;
                pipeline.add_command(if by_text {
                    script.0.by_body(key, &args)
                } else {
                    script.0.by_digest(key, &args)
                });
            }
            send_pipeline(link, &pipeline).await
        };
        let (value, _) = self.call_in_history(Effect::Possible, send).await?;
        let answers: Vec<RedisResult<Value>> = read(value)?;
        if answers.len() != keys.len() {
            return Err(Error::new(ErrorKind::Unexpected, "redis gave a wrong number of answers")
                .outcome_unknown()
                .with_context("asked", keys.len())
                .with_context("answered", answers.len()));
        }
        Ok(answers)
    }
}

fn read_own<T: FromRedisValue>(answer: RedisResult<Value>) -> Result<T> {
    answer.map_err(|error| Failure::of(&error, Effect::Possible).error).and_then(read)
}
