#!lua flags=allow-oom
-- Forget dead letters.
--@include _keys
--@include _lane
--@include _history
-- KEYS 6 counts  7 dead  8… events
-- ARGV 4 call id  5… event ids
-- Returns how many were dropped (the same when repeated).
local call = ARGV[4]
local now = now_ms()
local dropped = 0
for i = 8, #KEYS do
  if redis.call('ZREM', KEYS[7], ARGV[i - 3]) == 1 then
    finish(KEYS[i], 'dropped', call, now)
    redis.call('HINCRBY', KEYS[6], 'dead', -1)
    redis.call('HINCRBY', KEYS[6], 'dropped', 1)
    dropped = dropped + 1
  elseif not is_record(KEYS[i]) and was_finished_by(KEYS[i], call) then
    dropped = dropped + 1
  end
end
return dropped
