//! The changes that depend on what is there. Redis runs each as one step.

use zmsg_redis::Script;

/// `KEYS[1]`; the bytes of an entry, its TTL, the latest time of the server at which this is still
/// wanted. 1 if it is there now, 0 if something else was, else the time of the server.
///
/// A fill is right while a hold that was there when its load began lasts. One that the caller gave
/// up on may reach a server that stood still after that hold has expired.
pub(super) static FILL: Script = Script::new(
    r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if now > tonumber(ARGV[3]) then
    return now
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return 1
end
return 0
",
);

/// `KEYS[1]`; the bytes of the hold to put, its TTL. An invalidation puts the hold of nobody, which
/// takes no other's place.
///
/// What is not a string is replaced like anything else.
pub(super) static HOLD: Script = Script::new(
    r"
local found = redis.pcall('GET', KEYS[1])
local tag = type(found) == 'string' and string.sub(found, 1, 2) or ''
local put = ARGV[1]
if tag == '\1c' or (tag == '\1h' and found ~= put) then
    put = '\1c'
end
if tag == '\1h' or tag == '\1c' or tag == '\1n' then
    if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[2]) then
        redis.call('SET', KEYS[1], put, 'KEEPTTL')
        return 1
    end
end
redis.call('SET', KEYS[1], put, 'PX', ARGV[2])
return 1
",
);

/// `KEYS[1]`; the bytes of the caller's hold, those of the entry, its TTL. 1 if it is there now.
pub(super) static PUBLISH: Script = Script::new(
    r"
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
",
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
