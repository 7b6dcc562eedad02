#!lua flags=no-writes,allow-oom
-- Count what is in flight by walking the lanes, and read the counters at the same instant.
-- KEYS 1 due, 2… counts of the bots
-- ARGV 1 first lane, 2 last lane (ranks in the due index)
-- Returns {{bot, inbox lanes, outbox lanes, inbox events, outbox events, notices,
--   when the oldest event of an inbox was accepted, of an outbox (ms; 0: there is none)}…,} , counters…
local bots, order = {}, {}
for i = 2, #KEYS do
  local bot = KEYS[i]:gsub(':counts$', '')
  bots[bot] = { bot, 0, 0, 0, 0, 0, 0, 0 }
  order[#order + 1] = bot
end

-- A lane's first event is its oldest one. `HGET` on a record that is none must not end the walk.
local function note_age(b, slot, lane, id)
  local event = lane:match('^[^:]+:[^:]+') .. ':event:' .. id
  local accepted = tonumber(redis.pcall('HGET', event, 'accepted')) or 0
  if accepted > 0 and (b[slot] == 0 or accepted < b[slot]) then b[slot] = accepted end
end

local function walk(lane)
  local b = bots[lane:match('^[^:]+:[^:]+')]
  if not b then return end
  local is_outbox = lane:sub(-7) == ':outbox'
  b[is_outbox and 3 or 2] = b[is_outbox and 3 or 2] + 1
  if not is_outbox then
    b[4] = b[4] + redis.call('LLEN', lane)
    local id = redis.call('LINDEX', lane, 0)
    if id then note_age(b, 7, lane, id) end
    return
  end
  local is_first = true
  for _, id in ipairs(redis.call('LRANGE', lane, 0, -1)) do
    if id:find('^[!~]') then
      b[6] = b[6] + 1
    else
      b[5] = b[5] + 1
      if is_first then note_age(b, 8, lane, id) end
      is_first = false
    end
  end
end

for _, lane in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])) do walk(lane) end
local walked, counters = {}, {}
for i, bot in ipairs(order) do
  walked[i] = bots[bot]
  counters[i] = redis.call('HGETALL', bot .. ':counts')
end
return { walked, counters }
