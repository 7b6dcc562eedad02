-- Taking a lane's head: by a hint's word, or by the hint that waits next in the queue.
--
-- wish: what the worker wants: {claim = random id, lease_ms, entries of history, stopping = key
-- prefix of stopping workers, valid_ms = Redis's time after which it must not be claimed (0: always
-- may)}; in ARGV they stand in this order.
--
-- A Redis that was frozen runs what it got meanwhile when it wakes, also for those who have given
-- up: a claim given to them would stand for a whole lease. That is what valid_ms is for.
local SUSPECT_LOSSES, POISON_LOSSES = 2, 3
local HINTS_PER_TAKE = 4
local TAKEN_TTL_MS = 30000

local function wish_at(first)
  return { claim = ARGV[first], lease_ms = tonumber(ARGV[first + 1]),
    entries = tonumber(ARGV[first + 2]), stopping = ARGV[first + 3],
    valid_ms = tonumber(ARGV[first + 4]) }
end

local function is_late(wish, now) return wish.valid_ms > 0 and now > wish.valid_ms end

-- A notice that nobody needs any more: of a failure whose letter was dropped; that it takes longer,
-- when the event is answered or dead by now.
local function is_orphan(lane, head)
  if not is_notice(head) then return false end
  local event = event_of(lane, id_of(head))
  if not is_record(event) then return true end
  if is_failure(head) then return redis.call('HEXISTS', event, 'notice') == 0 end
  local f = redis.call('HMGET', event, 'written', 'dead')
  return f[1] or f[2]
end

local function is_held(lane, now)
  local f = redis.call('HMGET', state_of(lane), 'claim', 'lease')
  return f[1] and tonumber(f[2]) > now
end

-- A claim whose lease ended is lost, unless its worker had been asked to stop.
local function count_loss(lane, state, wish)
  if not state.claim then return end
  if queue_of(lane) == 'push' then state.unsure = state.unsure or state.claimed end
  if redis.call('EXISTS', wish.stopping .. (state.owner or '')) == 1 then return end
  state.losses = (state.losses or 0) + 1
  if state.turn == '1' then state.own_losses = (state.own_losses or 0) + 1 end
end

local function take_turn(lane, wish, now)
  if redis.call('SET', SUSPECT, lane .. ' ' .. wish.claim, 'NX', 'PX', wish.lease_ms) then
    redis.call('ZREM', SUSPECTS, lane)
    return true
  end
  redis.call('ZADD', SUSPECTS, 'NX', text_of(now), lane)
  redis.call('ZADD', DUE, text_of(now + wish.lease_ms), lane)
  return false
end

-- What a worker is told: {'claimed', lane, head, tries, since, unsure, poison, now, record, history}
local function claimed(lane, state, head, wish, now)
  local is_inbox = queue_of(lane) == 'process' and wish.entries > 0
  local history = is_inbox and redis.call('LRANGE', history_of(lane), -wish.entries, -1) or {}
  local poison = tonumber(state.own_losses or 0) >= POISON_LOSSES and 1 or 0
  return { 'claimed', lane, head, tonumber(state.tries), state.since, state.unsure or '', poison,
    text_of(now), redis.call('HGETALL', event_of(lane, id_of(head))), history }
end

local function note_hint(lane, seq)
  local field = queue_of(lane) .. ':claimed'
  if seq > tonumber(redis.call('HGET', HINTS, field) or 0) then
    redis.call('HSET', HINTS, field, seq)
  end
end

-- The head that can be worked on; orphans are put away, but not while somebody sends one: what
-- stands behind it must not overtake it.
local function head_of(lane, now)
  local head = redis.call('LINDEX', lane, 0)
  while head and is_orphan(lane, head) and not is_held(lane, now) do
    advance(lane, now)
    head = redis.call('LINDEX', lane, 0)
  end
  return head
end

-- What a replayed reply's letter kept: it was perhaps sent before.
local function unsure_of(lane, head)
  if is_notice(head) or queue_of(lane) ~= 'push' then return nil end
  local event = event_of(lane, head)
  local unsure = redis.call('HGET', event, 'unsure')
  if not unsure then return nil end
  redis.call('HDEL', event, 'unsure')
  return unsure
end

local function hold(lane, state, head, wish, now, is_turn)
  local key, lease = state_of(lane), text_of(now + wish.lease_ms)
  state.tries = (state.tries or 0) + 1
  state.since = state.since or text_of(now)
  redis.call('HSET', key, 'claim', wish.claim, 'lease', lease, 'owner', CALLER,
    'claimed', text_of(now), 'tries', state.tries, 'since', state.since,
    'losses', state.losses or 0, 'own_losses', state.own_losses or 0, 'turn', is_turn and 1 or 0)
  state.unsure = state.unsure or unsure_of(lane, head)
  if state.unsure then redis.call('HSET', key, 'unsure', state.unsure) end
  redis.call('HDEL', key, 'retry', 'hints', 'forget')
  redis.call('ZADD', DUE, lease, lane)
  if is_notice(head) then return end
  local event, queue = event_of(lane, head), queue_of(lane)
  redis.call('HINCRBY', event, queue .. '_tries', 1)
  if queue == 'process' then redis.call('HSETNX', event, 'claimed', text_of(now)) end
end

-- Returns {'empty'} | {'busy'} | {'later'} | {'late', now} or what `claimed` tells.
local function take(lane, seq, wish, now)
  note_hint(lane, seq)
  local head = head_of(lane, now)
  if not head then return { 'empty' } end
  local state = load_state(lane)
  if state.claim == wish.claim then return claimed(lane, state, head, wish, now) end
  if state.claim and tonumber(state.lease) > now then return { 'busy' } end
  if tonumber(state.retry or 0) > now then
    redis.call('ZADD', DUE, state.retry, lane)
    return { 'later' }
  end
  if is_late(wish, now) then  -- nobody may be there any more: the sweeper gives another hint
    redis.call('ZADD', DUE, text_of(now), lane)
    return { 'late', text_of(now) }
  end
  count_loss(lane, state, wish)
  local is_poison = tonumber(state.own_losses or 0) >= POISON_LOSSES
  local is_turn = tonumber(state.losses or 0) >= SUSPECT_LOSSES and not is_poison
  if is_turn and not take_turn(lane, wish, now) then return { 'busy' } end
  hold(lane, state, head, wish, now, is_turn)
  return claimed(lane, state, head, wish, now)
end

-- A hint of ours in its Celery message; nothing for a message that somebody else made.
local function read_hint(message)
  local ok, args = pcall(function() return cjson.decode(cjson.decode(message).body)[1] end)
  if ok and type(args) == 'table' and type(args[1]) == 'string' and tonumber(args[2]) then
    return args[1], tonumber(args[2])
  end
end

-- A worker that is done goes on with the hint that waits longest: what Celery would hand it next,
-- without the way through Celery. `claim` is the one that it has just ended. Repeated: the same.
local function take_next(queue, claim, wish, now)
  if wish.claim == '' or is_late(wish, now) then return false end
  for _ = 1, HINTS_PER_TAKE do
    local message = redis.call('RPOP', queue)
    if not message then return false end
    local lane, seq = read_hint(message)
    if not lane then
      redis.call('RPUSH', queue, message)
      return false
    end
    local answer = take(lane, seq, wish, now)
    if answer[1] == 'claimed' then
      redis.call('SET', taken_of(claim), lane, 'PX', TAKEN_TTL_MS)
      return answer
    end
  end
  return false
end

-- What `take_next` answered when this call was made before and its reply was lost.
local function taken_before(claim, wish, now)
  local lane = wish.claim ~= '' and redis.call('GET', taken_of(claim))
  if not lane then return false end
  local state = load_state(lane)
  return state.claim == wish.claim
    and claimed(lane, state, redis.call('LINDEX', lane, 0), wish, now)
end
