-- One lane: a FIFO of event ids whose head has at most one live claim. In an outbox '!id' is the
-- notice that the event failed, '~id' the one that it takes longer.
--
-- Every script that includes this takes first
--   KEYS 1 due  2 hints  3 suspect  4 suspects  5 workers:active
--   ARGV 1 template of a `process` hint  2 template of a `push` hint  3 caller (worker/start)
-- state (HASH, about the head only; gone when the lane is empty)
--   claim, lease, owner, claimed   the live claim: random id, end in ms, who, since when
--   last                           the claim that gave the head back for a retry
--   tries, since, retry            attempts; ms of the first one (of a notice in its reply's place: of
--                                  the reply's); ms before which not to try
--   losses, turn, own_losses       claims lost; 1: the claim is a suspect's turn; turns lost
--   unsure                         ms of the first send whose outcome nobody knows; a letter keeps it
--                                  in its event's record
--   hint, hints                    sequence number of the latest hint; how often it was repeated
local DUE, HINTS, SUSPECT, SUSPECTS, ACTIVE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local TEMPLATE = { process = ARGV[1], push = ARGV[2] }
local CALLER = ARGV[3]
local WORKER = CALLER:match('^[^/]*')

local HINT_GRACE_MS = 5000     -- a hint not claimed by then is looked after
local HINT_GRACE_MAX_MS = 15000

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function text_of(ms) return string.format('%.0f', ms) end

local function is_notice(entry) return entry:find('^[!~]') ~= nil end
local function is_failure(entry) return entry:sub(1, 1) == '!' end
local function id_of(entry) return (entry:gsub('^[!~]', '')) end

-- The day of Unix time by clocks that are `offset_s` ahead of UTC.
local function local_day(now, offset_s) return math.floor((now + offset_s * 1000) / 86400000) end

local function load_state(lane)
  local flat, state = redis.call('HGETALL', state_of(lane)), {}
  for i = 1, #flat, 2 do state[flat[i]] = flat[i + 1] end
  return state
end

local function active(now) redis.call('HSET', ACTIVE, WORKER, text_of(now)) end

-- A template cut at its "$": every second piece is a mark. Joining the pieces for each lane is
-- cheaper than searching the whole template again.
local function pieces_of(template)
  local pieces, at = {}, 1
  while true do
    local mark = template:find('$', at, true)
    pieces[#pieces + 1] = template:sub(at, (mark or 0) - 1)
    if not mark then return pieces end
    at = mark + 1
  end
end

-- The Celery message that says "look at this lane", for its head.
local PIECES = {}
local function message_of(lane, queue, head, seq)
  PIECES[queue] = PIECES[queue] or pieces_of(TEMPLATE[queue])
  local trace = id_of(head)
  local id = trace .. '.' .. queue .. '.' .. seq
  local marks = { LANE = lane, SEQ = seq, TRACE = trace, ID = id, TAG = id }
  local message = {}
  for i, piece in ipairs(PIECES[queue]) do message[i] = i % 2 == 0 and marks[piece] or piece end
  return table.concat(message)
end

local function grace_ms(repeats) return math.min(HINT_GRACE_MS * 2 ^ repeats, HINT_GRACE_MAX_MS) end

-- Put one Celery message for the lane on its stage's queue.
local function hint(lane, now, repeats)
  local queue = queue_of(lane)
  local seq = redis.call('HINCRBY', HINTS, queue .. ':issued', 1)
  redis.call('LPUSH', queue, message_of(lane, queue, redis.call('LINDEX', lane, 0), seq))
  redis.call('HSET', state_of(lane), 'hint', seq, 'hints', repeats)
  redis.call('ZADD', DUE, text_of(now + grace_ms(repeats)), lane)
end

-- The same for many resting lanes of one stage that just got their head: { { lane, head }, … }.
local function hint_all(queue, woken, now)
  if #woken == 0 then return end
  local seq = redis.call('HINCRBY', HINTS, queue .. ':issued', #woken) - #woken
  local messages, dues, due = {}, {}, text_of(now + grace_ms(0))
  for i, one in ipairs(woken) do
    local lane, head = one[1], one[2]
    messages[i] = message_of(lane, queue, head, seq + i)
    redis.call('HSET', state_of(lane), 'hint', seq + i, 'hints', 0)
    dues[2 * i - 1], dues[2 * i] = due, lane
  end
  redis.call('LPUSH', queue, unpack(messages))
  redis.call('ZADD', DUE, unpack(dues))
end

-- A suspect's turn ends: the next one may go.
local function end_turn(lane, claim, now)
  if redis.call('GET', SUSPECT) ~= lane .. ' ' .. claim then return end
  redis.call('DEL', SUSPECT)
  local next_lane = redis.call('ZPOPMIN', SUSPECTS)[1]
  if next_lane and redis.call('EXISTS', next_lane) == 1 then hint(next_lane, now, 0) end
end

-- The head is done with: the lane goes on with the next one, or rests.
local function advance(lane, now)
  redis.call('LPOP', lane)
  redis.call('DEL', state_of(lane))
  redis.call('ZREM', SUSPECTS, lane)
  if redis.call('EXISTS', lane) == 1 then hint(lane, now, 0) else redis.call('ZREM', DUE, lane) end
end

-- Append; a resting lane is woken.
local function enqueue(lane, id, now)
  if redis.call('RPUSH', lane, id) == 1 then hint(lane, now, 0) end
end

-- Not a hash: the event was dropped while its notice was under way. A hash without `event` and `lane`
-- is what a worker of 0.1.0 makes of a notice that it doesn't know.
local function is_record(event) return redis.call('TYPE', event).ok == 'hash' end
