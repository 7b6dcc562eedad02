#!lua flags=allow-oom
-- Look at lanes that are due: repeat what was lost, leave alone what still waits in its queue.
--@include _keys
--@include _lane
-- KEYS 6 sweeper
-- ARGV 4 lease of the sweeper in ms  5 lanes to look at, at most
-- Returns {-1} when another worker sweeps, else {lanes looked at, hints given}.
local RECHECK_MIN_MS, RECHECK_MAX_MS = 1000, 10000  -- a hint that waits is looked at again
local PER_HINT_MS = 10  -- for each one before it
local now = now_ms()
local holder = redis.call('GET', KEYS[6])
if holder and holder ~= CALLER then return { -1 } end
redis.call('SET', KEYS[6], CALLER, 'PX', ARGV[4])

local function queue_facts(queue)
  return {
    is_empty = redis.call('LLEN', queue) == 0,
    claimed = tonumber(redis.call('HGET', HINTS, queue .. ':claimed') or 0),
  }
end
local facts = { process = queue_facts('process'), push = queue_facts('push') }

-- A hint is lost if a later one of its queue was claimed, or the queue is empty.
local function hint_waits(lane, state)
  local f = facts[queue_of(lane)]
  return state.hint and not f.is_empty and tonumber(state.hint) > f.claimed
end

-- The first in the queue soon: whether it was lost shows as soon as a later one is claimed.
local function recheck_ms(lane, state)
  local before = tonumber(state.hint) - facts[queue_of(lane)].claimed
  return math.min(RECHECK_MIN_MS + PER_HINT_MS * before, RECHECK_MAX_MS)
end

local function look(lane)
  if redis.call('EXISTS', lane) == 0 then
    redis.call('ZREM', DUE, lane)
    redis.call('DEL', state_of(lane))
    return 0
  end
  local state = load_state(lane)
  local wake_at = math.max(tonumber(state.claim and state.lease or 0), tonumber(state.retry or 0))
  if wake_at > now then
    redis.call('ZADD', DUE, text_of(wake_at), lane)
    return 0
  end
  if hint_waits(lane, state) then
    redis.call('ZADD', DUE, text_of(now + recheck_ms(lane, state)), lane)
    return 0
  end
  hint(lane, now, tonumber(state.hints or -1) + 1)
  return 1
end

local lanes = redis.call('ZRANGEBYSCORE', DUE, '-inf', text_of(now), 'LIMIT', 0, ARGV[5])
local hinted = 0
for _, lane in ipairs(lanes) do hinted = hinted + look(lane) end
return { #lanes, hinted }
