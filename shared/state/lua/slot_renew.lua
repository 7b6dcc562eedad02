#!lua flags=allow-oom
-- Keep the slots of one process.
-- KEYS slots, one for each holder
-- ARGV 1 lease in ms, 2… holders, in the order of the keys
-- Returns how many were still held.
local t = redis.call('TIME')
local lease = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1])
local held = 0
for i, slots in ipairs(KEYS) do
  if redis.call('ZSCORE', slots, ARGV[1 + i]) then
    redis.call('ZADD', slots, lease, ARGV[1 + i])
    redis.call('PEXPIRE', slots, 10 * ARGV[1])
    held = held + 1
  end
end
return held
