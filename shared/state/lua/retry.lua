#!lua flags=allow-oom
-- Give a head back that shall be tried again later. It keeps its place: order in the lane.
--@include _keys
--@include _lane
--@include _history
-- KEYS 6 lane  7 event
-- ARGV 4 claim id  5 wait in ms  6 why  7 '1': nobody knows whether the send happened
--   8 '1': the attempt did not even begin (our own limit was reached): it is not counted
-- Returns 'ok' (also when repeated) or 'lost'.
local lane, event, claim = KEYS[6], KEYS[7], ARGV[4]
local now = now_ms()
local state = load_state(lane)
if state.last == claim and not state.claim then return 'ok' end
if state.claim ~= claim then return 'lost' end

active(now)
if ARGV[8] == '1' then
  redis.call('HINCRBY', event, queue_of(lane) .. '_tries', -1)
  if redis.call('HINCRBY', state_of(lane), 'tries', -1) == 0 then
    redis.call('HDEL', state_of(lane), 'since')
  end
else
  note_failure(event, queue_of(lane), state.tries, ARGV[6], now)
end
local due = text_of(now + tonumber(ARGV[5]))
redis.call('HDEL', state_of(lane), 'claim', 'lease', 'owner', 'turn')
redis.call('HSET', state_of(lane), 'last', claim, 'retry', due)
if ARGV[7] == '1' and not state.unsure then
  redis.call('HSET', state_of(lane), 'unsure', state.claimed)
end
redis.call('ZADD', DUE, due, lane)
end_turn(lane, claim, now)
return 'ok'
