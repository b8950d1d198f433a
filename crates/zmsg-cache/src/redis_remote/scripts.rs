//! What depends on what is there. Redis runs each as one step.
//!
//! An entry of another history than the server's present one is of before a crash or a failover,
//! and counts as nothing. The history is what the connection knows, which may be a second behind
//! where a server was given a new one without a restart. So what bears another history than one's own
//! may be newer: a hold counts whatever it bears, a value is replaced only if the server itself says
//! that it is of the past, and a publication asks first, for what it would put there under an older
//! history nobody would spare.

use zmsg_redis::{HistoryScript, Script, history_script};

/// `KEYS[1]`. What is there, what `PTTL` says, and the present history: for a cluster, whose
/// connections lead to many servers.
pub(super) static READ: HistoryScript =
    history_script!("return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), history}");

/// `KEYS[1]`; after the history: the one in which the key was missed, the tag and what follows it of
/// an entry, its TTL, the latest time of the server at which this is still wanted. 1 if it is there
/// now, 0 if something else was, else the time of the server.
///
/// A fill is right while a hold that was there when its load began lasts. One that the caller gave
/// up on may reach a server that stood still after that hold has expired; and one whose load began
/// in another history may not have met the hold at all.
pub(super) static FILL: HistoryScript = history_script!(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[6]) then
    return now
end
if history ~= ARGV[2] then
    return 0
end
local found = redis.pcall('GETRANGE', KEYS[1], 0, 21)
if type(found) == 'table' then
    return 0
end
if found ~= '' then
    local tag = string.sub(found, 1, 2)
    if tag == '\2h' or tag == '\2c' or tag == '\2n' then
        return 0
    end
    local of = string.sub(found, 3)
    if of == history or of == present() then
        return 0
    end
end
redis.call('SET', KEYS[1], '\2' .. ARGV[3] .. history .. ARGV[4], 'PX', ARGV[5])
return 1
"
);

/// `KEYS[1]`; after the history: the tag and what follows it of the hold to put, its TTL. An
/// invalidation puts the hold of nobody, which takes no other's place.
///
/// What is not a string is replaced like anything else.
pub(super) static HOLD: HistoryScript = history_script!(
    r"
local found = redis.pcall('GETRANGE', KEYS[1], 0, 38)
local tag = ''
if type(found) == 'string' then
    tag = string.sub(found, 1, 2)
end
local put = '\2' .. ARGV[2] .. history .. ARGV[3]
if tag == '\2c' or (tag == '\2h' and found ~= put) then
    put = '\2c' .. history
end
if tag == '\2h' or tag == '\2c' or tag == '\2n' then
    if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[4]) then
        redis.call('SET', KEYS[1], put, 'KEEPTTL')
        return 1
    end
end
redis.call('SET', KEYS[1], put, 'PX', ARGV[4])
return 1
"
);

/// `KEYS[1]`; after the history: the caller's token, the tag and what follows it of the entry, its
/// TTL. 1 if it is there now.
pub(super) static PUBLISH: HistoryScript = history_script!(
    r"
if redis.pcall('GETRANGE', KEYS[1], 0, 38) ~= '\2h' .. history .. ARGV[2] then
    return 0
end
if string.sub(history, 11) ~= promoted() then
    return 0
end
redis.call('SET', KEYS[1], '\2' .. ARGV[3] .. history .. ARGV[4], 'PX', ARGV[5])
return 1
"
);

/// `KEYS[1]`; after the history: the tag and what follows it of the entry, its TTL. For a cluster: a
/// single server gets the command by itself.
pub(super) static SET: HistoryScript = history_script!(
    r"
redis.call('SET', KEYS[1], '\2' .. ARGV[2] .. history .. ARGV[3], 'PX', ARGV[4])
return 1
"
);

/// `KEYS[1]`; the bytes that could not be read. Removes them, if they still are there, and what is
/// not a string.
pub(super) static DROP: Script = Script::new(
    r"
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' or found == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
",
);
