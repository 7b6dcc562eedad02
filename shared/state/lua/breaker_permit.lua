#!lua flags=allow-oom
-- May this endpoint be called? A breaker whose time is over lets one caller through: the probe.
-- KEYS 1 breaker
-- ARGV 1 probe id (of the caller, should it become the probe)  2 ms that a probe may take
-- Returns {'closed'} | {'probe'} (also when asked again) | {'open', ms until it is worth asking}.
local PROBED_MS = 1000  -- a probe may close it at any moment: the others ask again soon
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local f = redis.call('HMGET', KEYS[1], 'open_until', 'probe', 'probe_until')
local open_until = tonumber(f[1])
if not open_until then return { 'closed' } end
if open_until > now then return { 'open', open_until - now } end
local probe_until = tonumber(f[3]) or 0
if f[2] ~= ARGV[1] and probe_until > now then
  return { 'open', math.min(probe_until - now, PROBED_MS) }
end
redis.call('HSET', KEYS[1], 'probe', ARGV[1], 'probe_until', string.format('%.0f', now + ARGV[2]))
return { 'probe' }
