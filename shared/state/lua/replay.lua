#!lua
-- A dead letter joins the tail of its lane again. What was delivered stays delivered.
--@include _keys
--@include _lane
--@include _history
-- KEYS 6 event  7 counts  8 dead
-- ARGV 4 event id
-- Returns 'ok', 'not_dead', or 'no_text': what was written is gone, so it can't run again.
local event, counts, dead, id = KEYS[6], KEYS[7], KEYS[8], ARGV[4]
local now = now_ms()
if not redis.call('ZSCORE', dead, id) then return 'not_dead' end
local f = redis.call('HMGET', event, 'lane', 'dead_stage', 'textless')
if not f[1] or f[3] then return 'no_text' end
redis.call('ZREM', dead, id)
redis.call('HDEL', event, 'dead', 'dead_stage', 'dead_reason', 'buried_by')
redis.call('HINCRBY', counts, 'dead', -1)
note(event, f[2], 0, 'replayed', now)
enqueue(f[2] == 'push' and conversation_of(f[1]) .. ':outbox' or f[1], id, now)
return 'ok'
