#!lua flags=allow-oom
-- Take the right to work on a lane's head. Repeated with the same claim id: the same answer.
--@include _keys
--@include _lane
-- KEYS 6 lane  7 history (read for inboxes)
-- ARGV 4 claim id  5 the hint's sequence number  6 lease in ms  7 entries of history wanted
--   8 key prefix of stopping workers
-- Returns {'empty'} | {'busy'} | {'later'} or
--   {'claimed', head, tries, since, unsure, poison, now, event record (flat), history}
local lane, claim, lease_ms = KEYS[6], ARGV[4], tonumber(ARGV[6])
local SUSPECT_LOSSES, POISON_LOSSES = 2, 3
local now = now_ms()
local queue = queue_of(lane)

local function is_orphan(head)
  if head:sub(1, 1) ~= '!' then return false end
  local event = event_of(lane, head:sub(2))
  return not is_record(event) or redis.call('HEXISTS', event, 'notice') == 0
end

-- A claim whose lease ended is lost, unless its worker had been asked to stop.
local function count_loss(state)
  if not state.claim then return end
  state.unsure = queue == 'push' and (state.unsure or state.claimed) or nil
  if redis.call('EXISTS', ARGV[8] .. (state.owner or '')) == 1 then return end
  state.losses = (state.losses or 0) + 1
  if state.turn == '1' then state.own_losses = (state.own_losses or 0) + 1 end
end

local function take_turn()
  if redis.call('SET', SUSPECT, lane .. ' ' .. claim, 'NX', 'PX', lease_ms) then
    redis.call('ZREM', SUSPECTS, lane)
    return true
  end
  redis.call('ZADD', SUSPECTS, 'NX', text_of(now), lane)
  redis.call('ZADD', DUE, text_of(now + lease_ms), lane)
  return false
end

local function claimed(state, head)
  local event = event_of(lane, (head:gsub('^!', '')))
  local wanted = tonumber(ARGV[7])
  local history = wanted > 0 and redis.call('LRANGE', KEYS[7], -wanted, -1) or {}
  local poison = tonumber(state.own_losses or 0) >= POISON_LOSSES and 1 or 0
  return { 'claimed', head, tonumber(state.tries), state.since, state.unsure or '', poison,
    text_of(now), redis.call('HGETALL', event), history }
end

active(now)
local seq = tonumber(ARGV[5])
if seq > tonumber(redis.call('HGET', HINTS, queue .. ':claimed') or 0) then
  redis.call('HSET', HINTS, queue .. ':claimed', seq)
end
local head = redis.call('LINDEX', lane, 0)
while head and is_orphan(head) do
  advance(lane, now)
  head = redis.call('LINDEX', lane, 0)
end
if not head then return { 'empty' } end

local state = load_state(lane)
if state.claim == claim then return claimed(state, head) end
if state.claim and tonumber(state.lease) > now then return { 'busy' } end
if tonumber(state.retry or 0) > now then
  redis.call('ZADD', DUE, state.retry, lane)
  return { 'later' }
end
count_loss(state)
local is_suspect = tonumber(state.losses or 0) >= SUSPECT_LOSSES
local is_poison = tonumber(state.own_losses or 0) >= POISON_LOSSES
if is_suspect and not is_poison and not take_turn() then return { 'busy' } end

state.tries = (state.tries or 0) + 1
state.since = state.since or text_of(now)
local lease = text_of(now + lease_ms)
redis.call('HSET', state_of(lane), 'claim', claim, 'lease', lease, 'owner', CALLER,
  'claimed', text_of(now), 'tries', state.tries, 'since', state.since,
  'losses', state.losses or 0, 'own_losses', state.own_losses or 0,
  'turn', (is_suspect and not is_poison) and 1 or 0)
if state.unsure then redis.call('HSET', state_of(lane), 'unsure', state.unsure) end
redis.call('HDEL', state_of(lane), 'retry', 'hints')
redis.call('ZADD', DUE, lease, lane)
local event = event_of(lane, (head:gsub('^!', '')))
if head:sub(1, 1) ~= '!' then
  redis.call('HINCRBY', event, queue .. '_tries', 1)
  if queue == 'process' then redis.call('HSETNX', event, 'claimed', text_of(now)) end
end
return claimed(state, head)
