#!lua flags=allow-oom
-- Keep the claims of one process alive.
--@include _keys
--@include _lane
-- KEYS 6… lanes
-- ARGV 4 lease in ms, 5… claim ids, in the order of the lanes
-- Returns per lane 1 (renewed) or 0 (the claim is gone).
local lease_ms = tonumber(ARGV[4])
local now = now_ms()
local answers = {}
active(now)
for i = 6, #KEYS do
  local lane, claim = KEYS[i], ARGV[i - 1]
  local held = redis.call('HGET', state_of(lane), 'claim') == claim
  if held then
    redis.call('HSET', state_of(lane), 'lease', text_of(now + lease_ms))
    redis.call('ZADD', DUE, text_of(now + lease_ms), lane)
    if redis.call('GET', SUSPECT) == lane .. ' ' .. claim then
      redis.call('PEXPIRE', SUSPECT, lease_ms)
    end
  end
  answers[#answers + 1] = held and 1 or 0
end
return answers
