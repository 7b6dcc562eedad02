#!lua flags=allow-oom
-- A part was delivered: go on with the next one, or finish the event.
--@include _keys
--@include _lane
--@include _history
--@include _claim
-- KEYS 6 outbox  7 event  8 counts
-- ARGV 4 claim id  5 head  6 next part  7 number of parts
--   8–12 the wish of _claim for going on  13 route by which the part went out
-- Returns {'ok', next claim or false} (the same when repeated) or {'lost'}.
local lane, event, counts = KEYS[6], KEYS[7], KEYS[8]
local claim, head = ARGV[4], ARGV[5]
local route, of_notice = ARGV[13], is_notice(head)
local now, wish = now_ms(), wish_at(8)

local function was_settled()
  if is_record(event) then return redis.call('HGET', event, 'settled_by') == claim end
  if of_notice then return true end  -- its letter was dropped: nobody has anything to do here
  return was_finished_by(event, claim)
end

if redis.call('HGET', state_of(lane), 'claim') ~= claim then
  local following = taken_before(claim, wish, now)
  if following or was_settled() then return { 'ok', following } end
  return { 'lost' }
end
-- What is not the end of the event is noted: its record stands.
local function note_delivery()
  local what = of_notice and 'notice' or 'part ' .. ARGV[6] .. ' of ' .. ARGV[7]
  local by = route ~= '' and ' by ' .. route or ''
  note(event, 'push', redis.call('HGET', state_of(lane), 'tries'), what .. ' delivered' .. by, now)
end

active(now)
end_turn(lane, claim, now)
if is_record(event) and tonumber(ARGV[6]) < tonumber(ARGV[7]) then
  note_delivery()
  redis.call('HSET', event, of_notice and 'notice_part' or 'next_part', ARGV[6], 'settled_by', claim)
  redis.call('DEL', state_of(lane))
  hint(lane, now, 0)
  return { 'ok', take_next('push', claim, wish, now) }
end
if not of_notice then
  finish_as(redis.call('HGET', event, 'fate') or 'answered', event, counts, claim, now, route)
elseif is_record(event) then
  if is_failure(head) then
    note_delivery()
    redis.call('HDEL', event, 'notice', 'notice_part')
  else
    redis.call('HSET', event, 'told', text_of(now))
  end
  redis.call('HSET', event, 'settled_by', claim)
end
advance(lane, now)
return { 'ok', take_next('push', claim, wish, now) }
