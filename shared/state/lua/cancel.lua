#!lua flags=allow-oom
-- Unfinished events end without an answer, wherever they stand in their lanes, claimed or not: whoever
-- holds a claim on one finds it gone. What is being sent at this moment may still be seen.
--@include _keys
--@include _lane
--@include _history
--@include _quota
-- KEYS 6 counts  7… events
-- ARGV 4 call id  5… event ids
-- Returns how many ended by this call (the same when repeated); what is finished or dead is left alone.
local call = ARGV[4]
local now = now_ms()

local function take_out(lane, id)
  if redis.call('LINDEX', lane, 0) ~= id then
    redis.call('LREM', lane, 1, id)
    return
  end
  end_turn(lane, redis.call('HGET', state_of(lane), 'claim') or '', now)
  advance(lane, now)
end

-- A word that it takes longer stays behind as an orphan, and is put away like any other.
local function cancel(event, id)
  if not is_record(event) then return was_finished_by(event, call) and 1 or 0 end
  local f = redis.call('HMGET', event, 'lane', 'written', 'dead', 'fate')
  if not f[1] or f[3] then return 0 end
  if not f[2] then correct_quota(event, 0) end
  take_out(f[1], id)
  take_out(conversation_of(f[1]) .. ':outbox', id)
  redis.call('ZREM', WAITING, event)
  finish_as(f[4] or 'cancelled', event, KEYS[6], call, now)
  return 1
end

local cancelled = 0
for i = 7, #KEYS do cancelled = cancelled + cancel(KEYS[i], ARGV[i - 2]) end
return cancelled
