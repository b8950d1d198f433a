//! The names under which things are kept in Redis.

use std::fmt;

use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

/// A key as Redis sees it: `namespace:v1:kind:length:name`.
///
/// Made by [`Redis::key`](crate::Redis::key) and [`Redis::tagged`](crate::Redis::tagged). Two
/// different namespaces, kinds or names never give the same key: the length tells where a
/// name ends, and namespaces and kinds have no colon.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisKey(String);

impl RedisKey {
    pub(crate) fn plain(namespace: &str, kind: &'static str, name: &str) -> Self {
        debug_assert!(is_kind(kind), "{kind:?} cannot be a kind");
        Self(format!("{namespace}:v1:{kind}:{}:{name}", name.len()))
    }

    pub(crate) fn tagged(namespace: &str, kind: &'static str, tag: &str, part: &str) -> Self {
        debug_assert!(is_kind(kind), "{kind:?} cannot be a kind");
        // The length also keeps the tag from being empty, which a cluster takes for no tag.
        Self(format!("{namespace}:v1:{kind}:{{{}:{tag}}}:{part}", tag.len()))
    }

    /// A key as another system lays it out, without a namespace of ours.
    pub fn verbatim(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_kind(kind: &str) -> bool {
    !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase())
}

impl ToRedisArgs for RedisKey {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg(self.0.as_bytes());
    }
}

impl ToSingleRedisArg for RedisKey {}

impl fmt::Display for RedisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RedisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisKey({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_give_different_keys() {
        let keys = [
            RedisKey::plain("zmsg", "c", "a:b"),
            RedisKey::plain("zmsg", "c", "1:a:b"),
            RedisKey::tagged("zmsg", "c", "a", "b"),
            RedisKey::tagged("zmsg", "c", "a}:b", ""),
            RedisKey::tagged("zmsg", "c", "a", "}:b"),
            RedisKey::tagged("zmsg", "c", "", "a:b"),
            RedisKey::plain("zmsg", "c", "{1:a}:b"),
            RedisKey::plain("zmsg2", "c", "a:b"),
            RedisKey::plain("zmsg", "cc", "a:b"),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0].as_str(), "zmsg:v1:c:3:a:b");
        assert_eq!(keys[2].as_str(), "zmsg:v1:c:{1:a}:b");
    }

    #[test]
    fn keys_of_one_tag_share_what_a_cluster_hashes() {
        // What a cluster hashes: the text between the first `{` and the next `}`.
        let hashed = |key: &RedisKey| {
            let text = key.as_str().split_once('{').unwrap().1;
            text.split_once('}').unwrap().0.to_owned()
        };
        for tag in ["feed", "", "}", "{", "a}b"] {
            let one = RedisKey::tagged("zmsg", "f", tag, "meta");
            let two = RedisKey::tagged("zmsg", "f", tag, "bits:7");
            assert_eq!(hashed(&one), hashed(&two));
            assert!(!hashed(&one).is_empty());
        }
    }
}
