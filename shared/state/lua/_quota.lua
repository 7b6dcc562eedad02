-- What a consumer (a person, a group, a bot, a company) has used, by the minute and by the day.
--
-- consumer (HASH, gone when its windows are)
--   m<minute of Unix time>, d<day, by the clocks of the settings>
--                 'requests tokens' of the events that were accepted in that window
-- `quota` on an event's record: it was counted. Tokens reserved for it, the two windows it was
-- counted in ('-': in none), and the consumers it was counted for.
local function read_used(text)
  local requests, tokens = (text or '0 0'):match('^(%d+) (%-?%d+)$')
  return tonumber(requests), tonumber(tokens)
end

local function write_used(consumer, window, requests, tokens)
  redis.call('HSET', consumer, window, text_of(requests) .. ' ' .. text_of(tokens))
end

local function mark_quota(event, tokens, minute, day, consumers)
  local words = { text_of(tokens), minute, day, unpack(consumers) }
  redis.call('HSET', event, 'quota', table.concat(words, ' '))
end

local function correct_window(consumer, window, change)
  local text = redis.call('HGET', consumer, window)
  if not text then return end
  local requests, tokens = read_used(text)
  write_used(consumer, window, requests, tokens + change)
end

-- What an event that was counted has really used: in place of what was reserved for it.
local function correct_quota(event, tokens)
  local mark = redis.call('HGET', event, 'quota')
  if not mark then return end
  local words = {}
  for word in mark:gmatch('%S+') do words[#words + 1] = word end
  local change = tokens - tonumber(words[1])
  if change == 0 then return end
  for i = 4, #words do
    correct_window(words[i], words[2], change)
    correct_window(words[i], words[3], change)
  end
  mark_quota(event, tokens, words[2], words[3], { unpack(words, 4) })
end
