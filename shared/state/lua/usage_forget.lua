#!lua flags=allow-oom
-- Forget a consumer's use: it is added to what its kind used together, so that sums stay as they were.
--@include _usage
-- KEYS usage of the days
-- ARGV 1 the consumer's field  2 the field of its kind's others
-- Returns on how many days there was something.
local days = 0
for _, usage in ipairs(KEYS) do
  local used = redis.call('HGET', usage, ARGV[1])
  if used then
    local others = redis.call('HGET', usage, ARGV[2])
    redis.call('HSET', usage, ARGV[2], add_sums(others, read_sums(used)))
    redis.call('HDEL', usage, ARGV[1])
    days = days + 1
  end
end
return days
