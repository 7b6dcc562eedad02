#!lua flags=allow-oom
-- Keep the claims of one process alive.
--@include _keys
--@include _lane
-- KEYS 6… lanes
-- ARGV 4 lease in ms, 5… claim ids, in the order of the lanes
-- Returns per lane 1 (renewed) or 0 (the claim is gone).
local lease_ms = tonumber(ARGV[4])
local now = now_ms()
active(now)

-- A suspect's turn goes on with its claim, also when its time ran out and nobody came. If somebody
-- did, this suspect no longer runs alone: losing its claim is then no loss of its own turn.
local function renew_turn(lane, claim)
  local mine = lane .. ' ' .. claim
  redis.call('ZREM', SUSPECTS, lane)
  if redis.call('SET', SUSPECT, mine, 'NX', 'PX', lease_ms) then return end
  if redis.call('GET', SUSPECT) == mine then
    redis.call('PEXPIRE', SUSPECT, lease_ms)
  else
    redis.call('HSET', state_of(lane), 'turn', 0)
  end
end

local function renew(lane, claim)
  local key, lease = state_of(lane), text_of(now + lease_ms)
  local f = redis.call('HMGET', key, 'claim', 'turn')
  if f[1] ~= claim then return 0 end
  redis.call('HSET', key, 'lease', lease)
  redis.call('ZADD', DUE, lease, lane)
  if f[2] == '1' then renew_turn(lane, claim) end
  return 1
end

local answers = {}
for i = 6, #KEYS do answers[i - 5] = renew(KEYS[i], ARGV[i - 1]) end
return answers
