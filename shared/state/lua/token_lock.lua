#!lua flags=allow-oom
-- Take the right to fetch a token: a full Redis must not keep replies from going out.
-- KEYS 1 lock
-- ARGV 1 lock holder  2 lifetime in ms
-- Returns 1 (it is ours) or 0 (another worker fetches).
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
