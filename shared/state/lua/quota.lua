#!lua flags=allow-oom
-- Count an event for its consumers, or say which of their limits is reached. An event is counted
-- once, however often it is worked on; what is refused is counted for nobody.
--@include _keys
--@include _lane
--@include _quota
-- KEYS 6 lane  7 event  8… its consumers
-- ARGV 4 claim id  5 tokens to reserve  6 UTC offset of the local time in s
--   7 '1': refuse at a limit, '0': only count
--   8… per consumer: requests a minute, requests a day, tokens a minute, tokens a day (0: no limit)
-- Returns 'ok', 'lost', or 'refused <consumer> <limit> <s until it is free again>', both numbered
-- from 1: of several limits the one that is free last. Repeated with the same claim id: the same.
local lane, event, claim = KEYS[6], KEYS[7], ARGV[4]
local tokens, offset_s, is_strict = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local MINUTE_MS, DAY_MS, LIMITS = 60000, 86400000, 4
local MINUTE_TTL_S, DAY_SLACK_S = 120, 3600  -- the clocks of the zone may go back by an hour

if redis.call('HGET', state_of(lane), 'claim') ~= claim then return 'lost' end
local before = redis.call('HMGET', event, 'quota', 'refused')
if before[1] then return 'ok' end
if before[2] and before[2]:sub(1, #claim + 1) == claim .. ' ' then
  return before[2]:sub(#claim + 2)
end

local now = now_ms()
local minute, day = math.floor(now / MINUTE_MS), local_day(now, offset_s)
local to_minute_s = math.ceil(((minute + 1) * MINUTE_MS - now) / 1000)
local to_day_s = math.ceil(((day + 1) * DAY_MS - now) / 1000) - offset_s

-- A window goes on while its number isn't passed: a clock may be set back, a new day is never old.
local function used_in(number, window, requests, used_tokens)
  if window and tonumber(window) >= number then
    return { tonumber(window), tonumber(requests), tonumber(used_tokens) }
  end
  return { number, 0, 0 }
end

local function load_consumer(i)
  local limits = {}
  for n = 1, LIMITS do limits[n] = tonumber(ARGV[7 + LIMITS * (i - 1) + n]) end
  local f = redis.call('HMGET', KEYS[7 + i], 'minute', 'minute_requests', 'minute_tokens',
    'day', 'day_requests', 'day_tokens')
  return { key = KEYS[7 + i], limits = limits,
    minute = used_in(minute, f[1], f[2], f[3]), day = used_in(day, f[4], f[5], f[6]) }
end

-- Tokens: a question that is longer than the whole limit is let in while nothing else was used.
local function is_reached(limit, used, more)
  return limit > 0 and used > 0 and used + more > limit
end

local function reached(consumer, window, number_of_requests, number_of_tokens)
  local used, limits = consumer[window], consumer.limits
  if is_reached(limits[number_of_requests], used[2], 1) then return number_of_requests end
  if is_reached(limits[number_of_tokens], used[3], tokens) then return number_of_tokens end
end

local function count(consumer)
  local m, d, limits = consumer.minute, consumer.day, consumer.limits
  redis.call('HSET', consumer.key,
    'minute', text_of(m[1]), 'minute_requests', m[2] + 1, 'minute_tokens', text_of(m[3] + tokens),
    'day', text_of(d[1]), 'day_requests', d[2] + 1, 'day_tokens', text_of(d[3] + tokens))
  local has_day = limits[2] > 0 or limits[4] > 0
  redis.call('EXPIRE', consumer.key, has_day and to_day_s + DAY_SLACK_S or MINUTE_TTL_S)
end

local function refusal(consumers)
  for _, window in ipairs({ { 'day', 2, 4, to_day_s }, { 'minute', 1, 3, to_minute_s } }) do
    for i, consumer in ipairs(consumers) do
      local limit = reached(consumer, window[1], window[2], window[3])
      if limit then return table.concat({ 'refused', i, limit, window[4] }, ' ') end
    end
  end
end

local consumers, names = {}, {}
for i = 1, #KEYS - 7 do
  consumers[i] = load_consumer(i)
  names[i] = KEYS[7 + i]
end
active(now)
local answer = is_strict and refusal(consumers)
if answer then
  redis.call('HSET', event, 'refused', claim .. ' ' .. answer)
  return answer
end
for _, consumer in ipairs(consumers) do count(consumer) end
mark_quota(event, tokens, minute, day, names)
return 'ok'
