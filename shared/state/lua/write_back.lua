#!lua flags=allow-oom
-- Store the answer, remember the turn, count what it cost, hand the reply to the outbox, let the
-- inbox go on.
--@include _keys
--@include _lane
--@include _claim
--@include _quota
--@include _usage
-- KEYS 6 inbox  7 outbox  8 event  9 history  10 the writer's conversations, if there is a writer
-- ARGV 4 claim id  5 event id  6 reply (wire form)  7 entries of history to keep
--   8 history's TTL in s  9–13 the wish of _claim for going on
--   14 UTC offset of the local time in s  15 tokens of the prompt  16 tokens of the answer
--   17 'g' in a group, else 'p'  18 TTL in s of the writer's conversations
--   19 number of consumers, then their fields of _usage, then the entries to append
--      (no consumer: a rehearsal, that nobody used)
-- Returns {'ok', next claim or false} (the same when repeated) or {'lost'}: another claim holds
-- the head.
local inbox, outbox, event, history = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local claim, id = ARGV[4], ARGV[5]
local prompt, completion, consumers = tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[19])
local now, wish = now_ms(), wish_at(9)
local state = redis.call('HMGET', state_of(inbox), 'claim', 'forget')
if state[1] ~= claim then
  local following = taken_before(claim, wish, now)
  local is_written = is_record(event) and redis.call('HGET', event, 'written_by') == claim
  if following or is_written then return { 'ok', following } end
  return { 'lost' }
end

active(now)
redis.call('HSET', event, 'reply', ARGV[6], 'written', text_of(now), 'written_by', claim,
  'process_worker', WORKER)
local keep = state[2] and 0 or tonumber(ARGV[7])  -- forgotten meanwhile: nothing stays
if keep > 0 then
  for i = 20 + consumers, #ARGV do redis.call('RPUSH', history, ARGV[i]) end
  redis.call('LTRIM', history, -keep, -1)
  redis.call('EXPIRE', history, ARGV[8])
  if KEYS[10] then
    redis.call('SADD', KEYS[10], ARGV[17] .. inbox)
    redis.call('EXPIRE', KEYS[10], ARGV[18])
  end
else
  redis.call('DEL', history)
end
redis.call('ZREM', WAITING, event)
correct_quota(event, prompt + completion)
if consumers > 0 then
  local usage = usage_of(bot_of(inbox), local_day(now, tonumber(ARGV[14])))
  count_usage(usage, { unpack(ARGV, 20, 19 + consumers) }, prompt, completion)
end
enqueue(outbox, id, now)
end_turn(inbox, claim, now)
advance(inbox, now)
return { 'ok', take_next('process', claim, wish, now) }
