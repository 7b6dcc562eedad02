#!lua
-- Record events and wake their lanes; the one call behind HTTP 200.
--@include _keys
--@include _lane
-- KEYS after the five of _lane, per event: event, beginning of seen, inbox lane, counts
-- ARGV after the three of _lane:
--   4 QPS limit (0: none)  5 key prefix of the QPS counter
--   6 unfinished events a bot may have  7 unfinished events a conversation may have
--   then per event: trace id, digest of the event id ('' if it is the message id), wire form
-- Returns per event: 'accepted', 'duplicate', 'rate_limited', 'queue_full' or 'conversation_full'.
-- No allow-oom: a full Redis refuses before anything is written.
local QPS, QPS_PREFIX = tonumber(ARGV[4]), ARGV[5]
local BOT_CAPACITY, CONVERSATION_CAPACITY = tonumber(ARGV[6]), tonumber(ARGV[7])
local DAY_MS = 86400000
local now = now_ms()
local second = QPS_PREFIX .. math.floor(now / 1000)
local today = math.floor(now / DAY_MS)
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

-- Event ids are remembered by the day, today's and yesterday's: a set costs a fifth of a key each.
local function is_seen(seen, id)
  return id ~= '' and (redis.call('SISMEMBER', seen .. today, id) == 1
    or redis.call('SISMEMBER', seen .. today - 1, id) == 1)
end

local function remember(seen, id)
  if id == '' or redis.call('SADD', seen .. today, id) == 0 then return end
  if redis.call('SCARD', seen .. today) > 1 then return end
  redis.call('UNLINK', seen .. today - 2)  -- freed in the background; expiry would block
  redis.call('EXPIRE', seen .. today, 3 * 86400)
end

local function refusal(event, seen, event_id, lane, counts)
  if redis.call('EXISTS', event) == 1 or is_seen(seen, event_id) then return 'duplicate' end
  if QPS > 0 and tonumber(redis.call('GET', second) or 0) >= QPS then return 'rate_limited' end
  if unfinished(counts) >= BOT_CAPACITY then return 'queue_full' end
  local outbox = conversation_of(lane) .. ':outbox'
  if redis.call('LLEN', lane) + redis.call('LLEN', outbox) >= CONVERSATION_CAPACITY then
    return 'conversation_full'
  end
end

local function accept(event, seen, lane, counts, id, event_id, wire)
  local why = refusal(event, seen, event_id, lane, counts)
  if why then
    redis.call('HINCRBY', counts, why, 1)
    return why
  end
  if QPS > 0 then
    redis.call('INCR', second)
    redis.call('EXPIRE', second, 2)
  end
  redis.call('HSET', event, 'event', wire, 'accepted', text_of(now), 'lane', lane)
  remember(seen, event_id)
  redis.call('HINCRBY', counts, 'accepted', 1)
  unfinished_by_bot[counts] = unfinished_by_bot[counts] + 1
  enqueue(lane, id, now)
  return 'accepted'
end

local answers = {}
for i = 0, (#KEYS - 5) / 4 - 1 do
  local k, a = 5 + i * 4, 7 + i * 3
  answers[i + 1] = accept(KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4],
    ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
end
return answers
