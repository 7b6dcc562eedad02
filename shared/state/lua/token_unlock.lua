#!lua flags=allow-oom
-- A fetch failed: let the next worker try, unless it does so already.
-- KEYS 1 lock
-- ARGV 1 lock holder
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 'ok'
