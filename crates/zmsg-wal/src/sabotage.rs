//! What a log can be told to do wrong, so that a check can prove that it would notice.

/// One rule of the log, broken.
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "public for tests alone"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sabotage {
    /// All rules hold.
    #[default]
    Nothing,
    /// Records are acknowledged as synced, and the file is not.
    SkipSync,
    /// Records are acknowledged as synced before the file is.
    AcknowledgeBeforeSync,
    /// A segment gets its name before its header is on the disk.
    SkipHeaderSync,
    /// A segment is used before its name is on the disk.
    SkipDirSync,
    /// A sync that failed is tried again on the same file, and believed.
    RetryFailedSync,
    /// After a write that failed the log goes on behind it in the same file.
    AppendAfterTorn,
    /// Recovery believes a frame whose checksum does not fit.
    IgnoreCrc,
    /// Recovery takes damage for a torn tail.
    IgnoreProof,
    /// Recovery goes on with the sequence after the last one it found.
    ReuseSequence,
    /// Segments are removed before the checkpoint is on the disk.
    RemoveBeforeCheckpoint,
    /// Recovery does not write anew what nobody knows to be synced.
    TrustUnsynced,
}
