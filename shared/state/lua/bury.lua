#!lua flags=allow-oom
-- A head that finally failed becomes a dead letter; a notice may take its place in the outbox, and
-- has what is left of its time there: what stands behind waits no longer than behind any other head.
-- The notice of a rejected event leaves none: it was rejected all the same.
--@include _keys
--@include _lane
--@include _history
--@include _quota
-- KEYS 6 lane  7 event  8 counts  9 dead  10 noticed
-- ARGV 4 claim id  5 head  6 why  7 notice (wire form, or '')
--   8 ms within which a conversation gets at most one notice
--   9 '1': nobody knows whether the last send happened
-- Returns 'ok' (also when repeated) or 'lost'.
local lane, event, counts, dead, noticed = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local claim, head, why, notice = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local of_notice = is_notice(head)
local stage = queue_of(lane)
local now = now_ms()
if redis.call('HGET', state_of(lane), 'claim') ~= claim then
  if not is_record(event) then  -- its letter was dropped, or it ended as rejected
    return (of_notice or was_finished_by(event, claim)) and 'ok' or 'lost'
  end
  return redis.call('HGET', event, 'buried_by') == claim and 'ok' or 'lost'
end

active(now)
note_failure(event, stage, redis.call('HGET', state_of(lane), 'tries'), why, now)
if is_record(event) then redis.call('HSET', event, 'buried_by', claim) end
end_turn(lane, claim, now)
if of_notice then
  if is_failure(head) and is_record(event) then
    redis.call('HDEL', event, 'notice', 'notice_part')
  end
  advance(lane, now)
  return 'ok'
end

local fate = redis.call('HGET', event, 'fate')
if fate then  -- only the notice of it can't be delivered: there is nothing to replay
  finish_as(fate, event, counts, claim, now)
  advance(lane, now)
  return 'ok'
end

-- A replay shall know of it, unless that was the reason: then a person has decided.
local function keep_unsure()
  local state = load_state(lane)
  local unsure = state.unsure or ARGV[9] == '1' and state.claimed
  if unsure and not why:find('^uncertain_send') then redis.call('HSET', event, 'unsure', unsure) end
end

if stage == 'push' then keep_unsure() end
if stage == 'process' then correct_quota(event, 0) end  -- it gives back what it had reserved
redis.call('HSET', event, 'dead', text_of(now), 'dead_stage', stage, 'dead_reason', why)
redis.call('ZREM', WAITING, event)
redis.call('ZADD', dead, text_of(now), head)
redis.call('HINCRBY', counts, 'dead', 1)
local speaks = notice ~= '' and redis.call('SET', noticed, 1, 'NX', 'PX', ARGV[8])
if speaks then redis.call('HSET', event, 'notice', notice) end
if speaks and stage == 'push' then
  local since = redis.call('HGET', state_of(lane), 'since')
  redis.call('LSET', lane, 0, '!' .. head)
  redis.call('DEL', state_of(lane))
  redis.call('HSET', state_of(lane), 'since', since)
  hint(lane, now, 0)
  return 'ok'
end
if speaks then enqueue(conversation_of(lane) .. ':outbox', '!' .. head, now) end
advance(lane, now)
return 'ok'
