#!lua flags=allow-oom
-- Count an event for its consumers, or say which of their limits is reached. An event is counted
-- once, however often it is worked on; what is refused is counted for nobody.
--
-- It belongs to the minute and the day in which it was accepted, so that a backlog is judged by when
-- people wrote, not by when somebody came to work on it. Windows are kept for an hour and a day after
-- they ended: what waited longer is counted in none, and held by none.
--@include _keys
--@include _lane
--@include _quota
-- KEYS 6 lane  7 event  8… its consumers
-- ARGV 4 claim id  5 tokens to reserve  6 UTC offset of the local time in s
--   7 '1': refuse at a limit, '0': only count
--   8… per consumer: requests a minute, requests a day, tokens a minute, tokens a day (0: no limit)
-- Returns 'ok', 'lost', or 'refused <consumer> <limit> <s until it is free again>', both numbered
-- from 1: of several limits the one that is free last; 0 s: its window has ended by now. Repeated
-- with the same claim id: the same.
local lane, event, claim = KEYS[6], KEYS[7], ARGV[4]
local tokens, offset_s, is_strict = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local MINUTE_MS, DAY_MS, LIMITS = 60000, 86400000, 4
local MINUTES_BACK, DAYS_BACK = 60, 1
local MINUTES_TTL_S, DAY_SLACK_S = 3660, 3600  -- the clocks of the zone may go back by an hour

if redis.call('HGET', state_of(lane), 'claim') ~= claim then return 'lost' end
local before = redis.call('HMGET', event, 'quota', 'refused', 'accepted')
if before[1] then return 'ok' end
if before[2] and before[2]:sub(1, #claim + 1) == claim .. ' ' then
  return before[2]:sub(#claim + 2)
end

local now = now_ms()
local accepted = tonumber(before[3]) or now
local minute, day = math.floor(accepted / MINUTE_MS), local_day(accepted, offset_s)
local oldest_minute = math.floor(now / MINUTE_MS) - MINUTES_BACK
local today = local_day(now, offset_s)
local oldest_day = today - DAYS_BACK

local function seconds_to(ms) return math.max(0, math.ceil((ms - now) / 1000)) end

-- requests, tokens: numbers of the limits that hold in it.
local DAY = { field = day >= oldest_day and 'd' .. text_of(day), requests = 2, tokens = 4,
  free_s = seconds_to((day + 1) * DAY_MS - offset_s * 1000) }
local MINUTE = { field = minute >= oldest_minute and 'm' .. text_of(minute), requests = 1, tokens = 3,
  free_s = seconds_to((minute + 1) * MINUTE_MS) }

local function load_consumer(i)
  local limits = {}
  for n = 1, LIMITS do limits[n] = tonumber(ARGV[7 + LIMITS * (i - 1) + n]) end
  return { key = KEYS[7 + i], limits = limits }
end

-- Tokens: a question that is longer than the whole limit is let in while nothing else was used.
local function is_reached(limit, used, more)
  return limit > 0 and used > 0 and used + more > limit
end

local function reached(consumer, window)
  local limits = consumer.limits
  local used, used_tokens = read_used(redis.call('HGET', consumer.key, window.field))
  if is_reached(limits[window.requests], used, 1) then return window.requests end
  if is_reached(limits[window.tokens], used_tokens, tokens) then return window.tokens end
end

local function forget_old(key)
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local kind, number = field:sub(1, 1), tonumber(field:sub(2))
    local oldest = kind == 'm' and oldest_minute or oldest_day
    if (number or 0) < oldest then redis.call('HDEL', key, field) end
  end
end

local function count_in(key, window)
  if not window.field then return end
  local text = redis.call('HGET', key, window.field)
  local used, used_tokens = read_used(text)
  write_used(key, window.field, used + 1, used_tokens + tokens)
  if not text then forget_old(key) end
end

local function count(consumer)
  count_in(consumer.key, MINUTE)
  count_in(consumer.key, DAY)
  local limits = consumer.limits
  local days_ttl_s = (today + 1 + DAYS_BACK) * DAY_MS / 1000 - offset_s - math.floor(now / 1000)
  local has_day = limits[DAY.requests] > 0 or limits[DAY.tokens] > 0
  redis.call('EXPIRE', consumer.key, has_day and days_ttl_s + DAY_SLACK_S or MINUTES_TTL_S)
end

local function refusal(consumers)
  for _, window in ipairs({ DAY, MINUTE }) do
    for i, consumer in ipairs(consumers) do
      local limit = window.field and reached(consumer, window)
      if limit then return table.concat({ 'refused', i, limit, window.free_s }, ' ') end
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
mark_quota(event, tokens, MINUTE.field or '-', DAY.field or '-', names)
return 'ok'
