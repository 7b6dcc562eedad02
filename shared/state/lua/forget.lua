#!lua flags=allow-oom
-- Forget a conversation: the model is no longer reminded of anything that was said before.
-- KEYS 1 inbox lane  2 its state  3 history
-- Returns how many entries were forgotten. The turn that is being worked on is not kept, either:
-- its answer knows what was said before.
local entries = redis.call('LLEN', KEYS[3])
redis.call('DEL', KEYS[3])
if redis.call('HEXISTS', KEYS[2], 'claim') == 1 then redis.call('HSET', KEYS[2], 'forget', 1) end
return entries
