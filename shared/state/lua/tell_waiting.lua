#!lua flags=allow-oom
-- Who has waited long enough without a word of an answer is told that it takes longer. The notice
-- goes through the outbox: the reply comes behind it, and what comes behind the reply is an orphan.
-- A conversation is told once in a while, whoever waits in it: platforms count what a robot says there
-- (DingTalk silences one that says more than 20 things a minute), and the answers need the room. Who is
-- due in between has its turn after that, if it still waits.
--@include _keys
--@include _lane
-- KEYS 6 waiting
-- ARGV 4 events to look at, at most  5 ms within which a conversation is told at most once
-- Returns {events looked at, notices queued}.
local now = now_ms()

-- Never due now: this call and the next ones would look at it again and again.
local function put_off(event, told)
  redis.call('ZADD', KEYS[6], text_of(now + math.max(1, redis.call('PTTL', told))), event)
end

local function tell(event)
  redis.call('ZREM', KEYS[6], event)
  if not is_record(event) then return 0 end
  local f = redis.call('HMGET', event, 'lane', 'written', 'dead')
  if not f[1] or f[2] or f[3] then return 0 end
  local told = told_of(f[1])
  if not redis.call('SET', told, 1, 'NX', 'PX', ARGV[5]) then
    put_off(event, told)
    return 0
  end
  enqueue(conversation_of(f[1]) .. ':outbox', '~' .. event:match('[^:]+$'), now)
  return 1
end

local due = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', text_of(now), 'LIMIT', 0, ARGV[4])
local told = 0
for _, event in ipairs(due) do told = told + tell(event) end
return { #due, told }
