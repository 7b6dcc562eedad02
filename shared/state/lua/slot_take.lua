#!lua flags=allow-oom
-- Take a slot in each of the given sets, or in none. Slots whose lease ended are free again.
-- KEYS slots: sorted sets, holder by the ms its lease ends
-- ARGV 1 holder  2 lease in ms  then per key: how many slots there are
-- Returns 1 (also when taken before by this holder) or 0.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for i, slots in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', string.format('%.0f', now))
  local is_mine = redis.call('ZSCORE', slots, ARGV[1])
  if not is_mine and redis.call('ZCARD', slots) >= tonumber(ARGV[2 + i]) then return 0 end
end
for _, slots in ipairs(KEYS) do
  redis.call('ZADD', slots, string.format('%.0f', now + ARGV[2]), ARGV[1])
  redis.call('PEXPIRE', slots, 10 * ARGV[2])
end
return 1
