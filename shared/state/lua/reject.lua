#!lua flags=allow-oom
-- Policy lets an event have no answer: it ends as rejected, at once or after a notice of it.
--@include _keys
--@include _lane
--@include _history
--@include _claim
-- KEYS 6 inbox  7 outbox  8 event  9 counts  10 noticed
-- ARGV 4 claim id  5 event id  6 why  7 notice (wire form)
--   8 ms within which a conversation gets at most one notice  9–13 the wish of _claim for going on
-- Returns as write_back.lua does.
local inbox, outbox, event, counts, noticed = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local claim, id, why, notice = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local now, wish = now_ms(), wish_at(9)

local function was_rejected()
  if not is_record(event) then return was_finished_by(event, claim) end
  return redis.call('HGET', event, 'written_by') == claim
end

if redis.call('HGET', state_of(inbox), 'claim') ~= claim then
  local following = taken_before(claim, wish, now)
  if following or was_rejected() then return { 'ok', following } end
  return { 'lost' }
end

active(now)
redis.call('ZREM', WAITING, event)
redis.call('HSET', event, 'process_worker', WORKER, 'code', why)
if redis.call('SET', noticed, 1, 'NX', 'PX', ARGV[8]) then
  note(event, 'process', redis.call('HGET', state_of(inbox), 'tries'), 'rejected: ' .. why, now)
  redis.call('HSET', event, 'reply', notice, 'fate', 'rejected', 'written', text_of(now),
    'written_by', claim)
  enqueue(outbox, id, now)
else
  finish_as('rejected', event, counts, claim, now)
end
end_turn(inbox, claim, now)
advance(inbox, now)
return { 'ok', take_next('process', claim, wish, now) }
