#!lua flags=no-writes,allow-oom
-- Count what is in flight by walking the lanes, and read the counters at the same instant.
-- KEYS 1 due, 2… counts of the bots
-- ARGV 1 first lane, 2 last lane (ranks in the due index)
-- Returns {{bot, inbox lanes, outbox lanes, inbox events, outbox events, notices}…,} , counters…
local bots, order = {}, {}
for i = 2, #KEYS do
  local bot = KEYS[i]:gsub(':counts$', '')
  bots[bot] = { bot, 0, 0, 0, 0, 0 }
  order[#order + 1] = bot
end

local function walk(lane)
  local b = bots[lane:match('^[^:]+:[^:]+')]
  if not b then return end
  local is_outbox = lane:sub(-7) == ':outbox'
  b[is_outbox and 3 or 2] = b[is_outbox and 3 or 2] + 1
  if not is_outbox then
    b[4] = b[4] + redis.call('LLEN', lane)
    return
  end
  for _, id in ipairs(redis.call('LRANGE', lane, 0, -1)) do
    local slot = id:find('^[!~]') and 6 or 5
    b[slot] = b[slot] + 1
  end
end

for _, lane in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])) do walk(lane) end
local walked, counters = {}, {}
for i, bot in ipairs(order) do
  walked[i] = bots[bot]
  counters[i] = redis.call('HGETALL', bot .. ':counts')
end
return { walked, counters }
