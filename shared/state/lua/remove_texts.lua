#!lua flags=allow-oom
-- Remove from dead letters what was written, names and addresses; ids and why they died stay. They
-- can't run again.
--@include _keys
--@include _lane
-- KEYS 6 dead  7… events
-- ARGV 4 call id  5… event ids
-- Returns of how many the texts were removed by this call (the same when repeated, while the letters
-- are there).
local call = ARGV[4]
local BLANK = { 'text', 'sender_name', 'conversation_name', 'reply_secret' }

local function remove(event, wire)
  for _, name in ipairs(BLANK) do wire[name] = '' end
  wire.reply_address = {}
  redis.call('HSET', event, 'event', cjson.encode(wire), 'textless', call)
  redis.call('HDEL', event, 'reply', 'notice', 'notice_part')
end

local removed = 0
for i = 7, #KEYS do
  local is_dead = redis.call('ZSCORE', KEYS[6], ARGV[i - 2]) and is_record(KEYS[i])
  local f = is_dead and redis.call('HMGET', KEYS[i], 'event', 'textless') or {}
  if f[1] and not f[2] then remove(KEYS[i], cjson.decode(f[1])) end
  if f[1] and (not f[2] or f[2] == call) then removed = removed + 1 end
end
return removed
