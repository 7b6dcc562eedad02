-- Redis's own time, for scripts that have nothing to do with lanes.
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
