#!lua
-- Record events and wake their lanes; the one call behind HTTP 200.
--@include _keys
--@include _lane
-- KEYS after the five of _lane, per event: event, seen (or ''), inbox lane, counts
-- ARGV after the three of _lane:
--   4 QPS limit (0: none)  5 key prefix of the QPS counter
--   6 unfinished events a bot may have  7 unfinished events a conversation may have
--   then per event: trace id, wire form
-- Returns per event: 'accepted', 'duplicate', 'rate_limited', 'queue_full' or 'conversation_full'.
-- No allow-oom: a full Redis refuses before anything is written.
local QPS, QPS_PREFIX = tonumber(ARGV[4]), ARGV[5]
local BOT_CAPACITY, CONVERSATION_CAPACITY = tonumber(ARGV[6]), tonumber(ARGV[7])
local TTL_S = 86400
local now = now_ms()
local second = QPS_PREFIX .. math.floor(now / 1000)
local unfinished_by_bot = {}

local function unfinished(counts)
  if not unfinished_by_bot[counts] then
    local f = redis.call('HMGET', counts, 'accepted', 'answered', 'rejected', 'cancelled', 'dead', 'dropped')
    local n = tonumber(f[1]) or 0
    for i = 2, 6 do n = n - (tonumber(f[i]) or 0) end
    unfinished_by_bot[counts] = n
  end
  return unfinished_by_bot[counts]
end

local function refusal(event, seen, lane, counts)
  if redis.call('EXISTS', event) == 1 or (seen ~= '' and redis.call('EXISTS', seen) == 1) then
    return 'duplicate'
  end
  if QPS > 0 and tonumber(redis.call('GET', second) or 0) >= QPS then return 'rate_limited' end
  if unfinished(counts) >= BOT_CAPACITY then return 'queue_full' end
  local outbox = conversation_of(lane) .. ':outbox'
  if redis.call('LLEN', lane) + redis.call('LLEN', outbox) >= CONVERSATION_CAPACITY then
    return 'conversation_full'
  end
end

local function accept(event, seen, lane, counts, id, wire)
  local why = refusal(event, seen, lane, counts)
  if why then
    redis.call('HINCRBY', counts, why, 1)
    return why
  end
  if QPS > 0 then
    redis.call('INCR', second)
    redis.call('EXPIRE', second, 2)
  end
  redis.call('HSET', event, 'event', wire, 'accepted', text_of(now), 'lane', lane)
  if seen ~= '' then redis.call('SET', seen, 1, 'EX', TTL_S) end
  redis.call('HINCRBY', counts, 'accepted', 1)
  unfinished_by_bot[counts] = unfinished_by_bot[counts] + 1
  enqueue(lane, id, now)
  return 'accepted'
end

local answers = {}
for i = 0, (#KEYS - 5) / 4 - 1 do
  local k, a = 5 + i * 4, 7 + i * 2
  answers[i + 1] = accept(KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], ARGV[a + 1], ARGV[a + 2])
end
return answers
