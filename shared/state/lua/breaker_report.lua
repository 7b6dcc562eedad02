#!lua flags=allow-oom
-- Calls of an endpoint ended: count them, open its breaker if too many failed. A probe decides, and
-- one that took long enough to be replaced may still close it: it works.
-- KEYS 1 breaker
-- ARGV 1 calls that went well  2 calls that failed  3 probe id, or ''
--   4 window in ms  5 failures that open it (0: never)  6 share of failures, in thousandths
--   7 ms it stays open; again as long when the probe fails
--   8 ms for which the endpoint asked to be left alone, when it failed: it stays open no shorter
-- Returns ms that it is open, 0 when it is closed. Repeated, it counts twice: that does no harm.
local FORGET_MS = 3600000
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local ok, failed, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local asked = tonumber(ARGV[8] or 0)  -- none: a worker that isn't updated yet

local function field(name) return tonumber(redis.call('HGET', KEYS[1], name) or 0) end

local function open_for(open_ms)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'open_until', string.format('%.0f', now + open_ms))
  redis.call('PEXPIRE', KEYS[1], FORGET_MS + open_ms)
  return open_ms
end

local function open() return open_for(math.max(tonumber(ARGV[7]), asked)) end

-- Two windows are remembered: this one and the one before.
local function count()
  local number = math.floor(now / window)
  local f = redis.call('HMGET', KEYS[1], 'window', 'ok', 'failed', 'ok_before', 'failed_before')
  local age = number - (tonumber(f[1]) or 0)
  local before = age == 0 and { f[4] or 0, f[5] or 0 } or age == 1 and { f[2] or 0, f[3] or 0 } or { 0, 0 }
  local now_ok = (age == 0 and tonumber(f[2]) or 0) + ok
  local now_failed = (age == 0 and tonumber(f[3]) or 0) + failed
  redis.call('HSET', KEYS[1], 'window', number, 'ok', now_ok, 'failed', now_failed,
    'ok_before', before[1], 'failed_before', before[2])
  redis.call('PEXPIRE', KEYS[1], FORGET_MS)
  return now_ok + before[1], now_failed + before[2]
end

local open_until = field('open_until')
if open_until > 0 then
  if ARGV[3] ~= '' and failed == 0 then
    redis.call('DEL', KEYS[1])
    return 0
  end
  if redis.call('HGET', KEYS[1], 'probe') == ARGV[3] then return open() end
  local left = open_until - now
  if left <= 0 then return 0 end  -- a probe that was replaced: the other decides
  return asked > left and open_for(asked) or left  -- a call from before it opened
end
local all_ok, all_failed = count()
local limit = tonumber(ARGV[5])
if limit > 0 and all_failed >= limit and all_failed * 1000 >= (all_ok + all_failed) * ARGV[6] then
  return open()
end
return 0
