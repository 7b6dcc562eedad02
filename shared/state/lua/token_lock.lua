#!lua flags=allow-oom
-- Who fetches the access token: nobody, if it is there (it may have come since it was looked for).
-- KEYS 1 lock  2 token
-- ARGV 1 lock holder  2 lifetime of the lock in ms
-- Returns 1 (fetch it; also when this holder asks again, whose first answer was lost) or 0 (look
-- again).
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
