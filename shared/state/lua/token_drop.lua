#!lua flags=allow-oom
-- Forget a token that the platform refused, unless a newer one is already there.
-- KEYS 1 token
-- ARGV 1 version
if redis.call('HGET', KEYS[1], 'version') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 'ok'
