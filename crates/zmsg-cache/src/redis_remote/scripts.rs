//! What depends on what is there. Redis runs each as one step.
//!
//! An entry of another history than the server's present one is of before a crash or a failover,
//! and counts as nothing. The history is what the connection knows, which may be a second behind
//! where a server was given a new one without a restart. So what bears another history than one's own
//! may be newer: a hold counts whatever it bears, a value is replaced only if the server itself says
//! that it is of the past, and a publication asks first, for what it would put there under an older
//! history nobody would spare.

use zmsg_redis::{HistoryScript, Script, history_script};

/// Functions that scripts have in common: the server's time in milliseconds, and putting an entry
/// there, of a tag, what follows it, and its TTL.
macro_rules! entry_script {
    ($body:literal) => {
        history_script!(
            r"
local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function put(tag, rest, ttl)
    local ends = now() + ttl
    local entry = '\3' .. tag .. history .. struct.pack('>I8', ends) .. rest
    redis.call('SET', KEYS[1], entry, 'PXAT', ends)
end
",
            $body
        )
    };
}

/// `KEYS[1]`. What is there, what `PTTL` says, and the present history: for a cluster, whose
/// connections lead to many servers, each with a clock of its own.
pub(super) static READ: HistoryScript =
    history_script!("return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]), history}");

/// `KEYS[1]`; after the history: the one in which the key was missed, the tag and what follows it of
/// an entry, its TTL, the latest time of the server at which this is still wanted. 1 if it is there
/// now, 0 if something else was, else the time of the server.
///
/// A fill is right while a hold that was there when its load began lasts. One that the caller gave
/// up on may reach a server that stood still after that hold has expired; and one whose load began
/// in another history may not have met the hold at all. What is not a string or of another format
/// is replaced, and so is a hold that someone made last for ever.
pub(super) static FILL: HistoryScript = entry_script!(
    r"
local time = now()
if time > tonumber(ARGV[6]) then
    return time
end
if history ~= ARGV[2] then
    return 0
end
local found = redis.pcall('GETRANGE', KEYS[1], 0, 21)
if type(found) == 'table' then
    if not string.find(found.err, 'WRONGTYPE') then
        return found
    end
elseif found ~= '' then
    local tag = string.sub(found, 1, 2)
    local of = string.sub(found, 3)
    if tag == '\3h' or tag == '\3c' or tag == '\3n' then
        if redis.call('PTTL', KEYS[1]) >= 0 then
            return 0
        end
    elseif string.byte(found) == 3 and (of == history or of == present()) then
        return 0
    end
end
put(ARGV[3], ARGV[4], ARGV[5])
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
local put = '\3' .. ARGV[2] .. history .. ARGV[3]
if tag == '\3c' or (tag == '\3h' and found ~= put) then
    put = '\3c' .. history
end
if tag == '\3h' or tag == '\3c' or tag == '\3n' then
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
pub(super) static PUBLISH: HistoryScript = entry_script!(
    r"
if redis.pcall('GETRANGE', KEYS[1], 0, 38) ~= '\3h' .. history .. ARGV[2] then
    return 0
end
if string.sub(history, 11) ~= promoted() then
    return 0
end
put(ARGV[3], ARGV[4], ARGV[5])
return 1
"
);

/// `KEYS[1]`; after the history: the tag and what follows it of the entry, its TTL. For a cluster: a
/// single server gets the command by itself.
pub(super) static SET: HistoryScript = entry_script!(
    r"
put(ARGV[2], ARGV[3], ARGV[4])
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
