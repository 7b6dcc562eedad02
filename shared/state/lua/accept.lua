#!lua
-- Record events and wake their lanes; the one call behind HTTP 200.
--@include _keys
--@include _lane
-- KEYS after the five of _lane, per event: inbox lane
-- ARGV after the three of _lane:
--   4 QPS limit (0: none)  5 key prefix of the QPS counter
--   6 unfinished events a bot may have  7 unfinished events a conversation may have
--   then per event: trace id, digest of the event id ('' if it is the message id), wire form,
--   ms after which its person is told that it takes longer ('0': never)
-- Returns per event: 'accepted', 'duplicate', 'rate_limited', 'queue_full' or 'conversation_full'.
-- No allow-oom: a full Redis refuses before anything is written.
-- What many events share is asked once and written once, at the end: counts, the QPS counter, hints.
local QPS = tonumber(ARGV[4])
local BOT_CAPACITY, CONVERSATION_CAPACITY = tonumber(ARGV[6]), tonumber(ARGV[7])
local DAY_MS = 86400000
local now = now_ms()
local accepted_at = text_of(now)
local today = math.floor(now / DAY_MS)
local second = ARGV[5] .. math.floor(now / 1000)
local qps_left = QPS > 0 and QPS - tonumber(redis.call('GET', second) or 0) or math.huge
local qps_used = 0
local bots, woken, waiting = {}, {}, {}

local function unfinished(counts)
  local f = redis.call('HMGET', counts, 'accepted', 'answered', 'rejected', 'cancelled', 'dead', 'dropped')
  local n = tonumber(f[1]) or 0
  for i = 2, 6 do n = n - (tonumber(f[i]) or 0) end
  return n
end

-- What this call needs to know of a bot, asked once; tally: outcomes by name.
local function bot_at(lane)
  local name = bot_of(lane)
  local bot = bots[name]
  if not bot then
    local counts, seen = counts_of(name), seen_of(name, today)
    bot = { name = name, counts = counts, left = BOT_CAPACITY - unfinished(counts), tally = {},
      seen = seen, seen_before = seen_of(name, today - 1),
      is_first_today = redis.call('EXISTS', seen) == 0 }
    bots[name] = bot
  end
  return bot
end

-- Event ids are remembered by the day, today's and yesterday's: a set costs a fifth of a key each.
local function is_seen(bot, id)
  return id ~= '' and (redis.call('SISMEMBER', bot.seen, id) == 1
    or redis.call('SISMEMBER', bot.seen_before, id) == 1)
end

local function remember(bot, id)
  if id == '' then return end
  redis.call('SADD', bot.seen, id)
  if not bot.is_first_today then return end
  bot.is_first_today = false
  redis.call('UNLINK', seen_of(bot.name, today - 2))  -- freed in the background; expiry would block
  redis.call('EXPIRE', bot.seen, 3 * 86400)
end

local function refusal(event, bot, event_id, lane)
  if redis.call('EXISTS', event) == 1 or is_seen(bot, event_id) then return 'duplicate' end
  if qps_left <= qps_used then return 'rate_limited' end
  if bot.left <= 0 then return 'queue_full' end
  local outbox = conversation_of(lane) .. ':outbox'
  if redis.call('LLEN', lane) + redis.call('LLEN', outbox) >= CONVERSATION_CAPACITY then
    return 'conversation_full'
  end
end

local function accept(lane, bot, id, event_id, wire, notice_after_ms)
  local event = event_of(lane, id)
  local why = refusal(event, bot, event_id, lane)
  if why then return why end
  redis.call('HSET', event, 'event', wire, 'accepted', accepted_at, 'lane', lane)
  remember(bot, event_id)
  if redis.call('RPUSH', lane, id) == 1 then woken[#woken + 1] = { lane, id } end
  if notice_after_ms ~= '0' then
    waiting[#waiting + 1] = text_of(now + tonumber(notice_after_ms))
    waiting[#waiting + 1] = event
  end
  qps_used, bot.left = qps_used + 1, bot.left - 1
  return 'accepted'
end

local answers = {}
for i = 1, #KEYS - 5 do
  local lane, a = KEYS[5 + i], 4 + 4 * i
  local bot = bot_at(lane)
  local outcome = accept(lane, bot, ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3])
  bot.tally[outcome] = (bot.tally[outcome] or 0) + 1
  answers[i] = outcome
end
for _, bot in pairs(bots) do
  for outcome, n in pairs(bot.tally) do redis.call('HINCRBY', bot.counts, outcome, n) end
end
if QPS > 0 and qps_used > 0 and redis.call('INCRBY', second, qps_used) == qps_used then
  redis.call('EXPIRE', second, 2)
end
if #waiting > 0 then redis.call('ZADD', WAITING, unpack(waiting)) end
hint_all('process', woken, now)
return answers
