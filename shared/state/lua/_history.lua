-- What an operator can read of an event's way: a log while its record stands, a line afterwards.
local LOG_BYTES = 2048  -- of the newest lines

-- Whole lines only: half a character would make the whole record unreadable.
local function newest(log)
  if #log <= LOG_BYTES then return log end
  log = log:sub(-LOG_BYTES)
  return log:sub((log:find('\n', 1, true) or #log) + 1)
end

-- A line of the log: `ms \t stage \t attempt worker \t text`.
local function note(event, stage, tries, text, now)
  if not is_record(event) then return end
  local log = (redis.call('HGET', event, 'log') or '') .. text_of(now) .. '\t' .. stage .. '\t' ..
    tries .. ' ' .. WORKER .. '\t' .. text:gsub('\n', ' ') .. '\n'
  redis.call('HSET', event, 'log', newest(log))
end

-- 'model:503' of 'model:503: busy', also behind 'gave up after 3 attempts in 600 s: '.
local function code_of(why) return why:match('%a[%w_]*:[^%s:]+') or why:match('^[^:]*') end

-- The same of an attempt that failed.
local function note_failure(event, stage, tries, why, now)
  note(event, stage, tries, why, now)
  if is_record(event) then redis.call('HSET', event, 'code', code_of(why)) end
end

-- What stays of a finished event: deduplication and its way, in one short string. 44 characters
-- take Redis no second allocation, so numbers are written to base 36, and names are numbered by
-- the day of the end. One after the other:
--   1 fate, its first letter   1 attempts to process   1 attempts to push (z: 35 or more)
--   4 × 2 numbers in `words`: worker that processed, worker that pushed, route, last failure's code
--   8 ms accepted, ' ', ms from then until the first claim, ' ', until the reply was written, ' ',
--   until the end, ' ' ('-': never happened)   8 the beginning of the last claim's id
-- `shared/state/finished.py` reads it.
local BASE, DIGITS = 36, '0123456789abcdefghijklmnopqrstuvwxyz'
local NO_WORD = '--'
local WORD_CHARS, WORDS_TTL_S = 64, 3 * 86400
local CLAIM_MARK = 8

local function mark_of(claim) return claim:sub(1, CLAIM_MARK) end

local function base36(n)
  local text = ''
  repeat
    local digit = n % BASE
    text = DIGITS:sub(digit + 1, digit + 1) .. text
    n = (n - digit) / BASE
  until n == 0
  return text
end

local function digit_of(n) return base36(math.min(tonumber(n) or 0, BASE - 1)) end

-- Two digits that stand for a word in every line of that day.
local function number_of(word, now)
  if not word or word == '' then return NO_WORD end
  local words = words_of(math.floor(now / 86400000))
  word = word:sub(1, WORD_CHARS)
  local number = redis.call('HGET', words, word)
  if number then return number end
  local used = redis.call('HLEN', words)
  if used >= BASE * BASE then return NO_WORD end
  number = ('0' .. base36(used)):sub(-2)
  redis.call('HSET', words, word, number)
  redis.call('EXPIRE', words, WORDS_TTL_S)
  return number
end

local function finish(event, fate, claim, now, route)
  local f = redis.call('HMGET', event, 'accepted', 'claimed', 'written', 'process_tries',
    'push_tries', 'process_worker', 'code')
  local accepted = tonumber(f[1]) or now
  local function since(ms) return ms and base36(math.max(0, tonumber(ms) - accepted)) or '-' end
  local pushed_by = route and WORKER
  local line = table.concat({ fate:sub(1, 1), digit_of(f[4]), digit_of(f[5]),
    number_of(f[6], now), number_of(pushed_by, now), number_of(route, now), number_of(f[7], now),
    base36(accepted), ' ', since(f[2]), ' ', since(f[3]), ' ', since(now), ' ', mark_of(claim) })
  redis.call('DEL', event)
  redis.call('SET', event, line, 'EX', 86400)
end

-- The same, counted. route: the one by which its last part went out.
local function finish_as(fate, event, counts, claim, now, route)
  finish(event, fate, claim, now, route)
  redis.call('HINCRBY', counts, fate, 1)
end

local function was_finished_by(event, claim)
  local line = redis.call('GET', event)
  return line and line:sub(-CLAIM_MARK) == mark_of(claim)
end
