-- What a consumer (a person, a group, a bot, a company) has used in this minute and this day.
--
-- consumer (HASH, gone when its windows are)
--   minute, minute_requests, minute_tokens   the minute of Unix time, and what was used in it
--   day, day_requests, day_tokens            the same of the day, by the clocks of the settings
-- `quota` on an event's record: it was counted. Tokens reserved for it, its minute and day, and
-- the consumers it was counted for. It belongs to those windows, whenever it is answered.
local function mark_quota(event, tokens, minute, day, consumers)
  local words = { text_of(tokens), text_of(minute), text_of(day), unpack(consumers) }
  redis.call('HSET', event, 'quota', table.concat(words, ' '))
end

local function correct_consumer(key, minute, day, change)
  local f = redis.call('HMGET', key, 'minute', 'day')
  if f[1] == minute then redis.call('HINCRBY', key, 'minute_tokens', text_of(change)) end
  if f[2] == day then redis.call('HINCRBY', key, 'day_tokens', text_of(change)) end
end

-- What an event that was counted has really used: in place of what was reserved for it.
local function correct_quota(event, tokens)
  local mark = redis.call('HGET', event, 'quota')
  if not mark then return end
  local words = {}
  for word in mark:gmatch('%S+') do words[#words + 1] = word end
  local change = tokens - tonumber(words[1])
  if change == 0 then return end
  for i = 4, #words do correct_consumer(words[i], words[2], words[3], change) end
  mark_quota(event, tokens, words[2], words[3], { unpack(words, 4) })
end
