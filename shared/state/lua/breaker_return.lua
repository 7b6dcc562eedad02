#!lua flags=allow-oom
-- A probe that never reached its endpoint is given back: the next caller becomes the probe.
-- KEYS 1 breaker
-- ARGV 1 probe id
-- Returns 1, or 0 when another call is the probe. Repeated, it changes nothing.
if redis.call('HGET', KEYS[1], 'probe') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
return 1
