#!lua
-- A dead letter joins the tail of its lane again. What was delivered stays delivered. Its notice, if
-- nobody is sending it just now, is not said any more: the answer would come behind it.
--@include _keys
--@include _lane
--@include _history
--@include _claim
-- KEYS 6 event  7 counts  8 dead
-- ARGV 4 event id  5 call id
-- Returns 'ok' (also when this call is repeated, whatever became of the event while it has a record),
-- 'not_dead', or 'no_text': what was written is gone, so it can't run again.
local event, counts, dead, id, call = KEYS[6], KEYS[7], KEYS[8], ARGV[4], ARGV[5]
local now = now_ms()
if is_record(event) and redis.call('HGET', event, 'replayed_by') == call then return 'ok' end
if not redis.call('ZSCORE', dead, id) then return 'not_dead' end
local f = redis.call('HMGET', event, 'lane', 'dead_stage', 'textless')
if not f[1] or f[3] then return 'no_text' end
redis.call('ZREM', dead, id)
redis.call('HDEL', event, 'dead', 'dead_stage', 'dead_reason', 'buried_by', 'notice',
  'notice_part')
redis.call('HSET', event, 'replayed_by', call)
redis.call('HINCRBY', counts, 'dead', -1)
note(event, f[2], 0, 'replayed', now)
local outbox = conversation_of(f[1]) .. ':outbox'
head_of(outbox, now)
enqueue(f[2] == 'push' and outbox or f[1], id, now)
return 'ok'
