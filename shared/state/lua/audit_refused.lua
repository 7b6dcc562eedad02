#!lua flags=allow-oom
-- Add up what an ingress refused, in the hash of the day: exact sums by reason, platform and bot;
-- by address as long as there are not too many of them: then the half with the least is put together.
--@include _time
-- KEYS 1 mark: this call was made
-- ARGV 1 key prefix of the days  2 UTC offset of the local time in s  then fields and what to add
-- Returns 1, or 0 when repeated.
local MARK_TTL_S, DAYS_TTL_S = 600, 40 * 86400
local MOST_FIELDS = 2000
local OTHERS = 'from:'
if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', MARK_TTL_S) then return 0 end
local day = math.floor((now_ms() / 1000 + ARGV[2]) / 86400)
local refused = ARGV[1] .. string.format('%d', day)

-- Who called least first.
local function addresses()
  local flat, found = redis.call('HGETALL', refused), {}
  for i = 1, #flat, 2 do
    if flat[i]:sub(1, #OTHERS) == OTHERS and flat[i] ~= OTHERS then
      found[#found + 1] = { field = flat[i], count = tonumber(flat[i + 1]) }
    end
  end
  table.sort(found, function(a, b) return a.count < b.count end)
  return found
end

local function put_together()
  local found, sum = addresses(), 0
  for i = 1, math.floor(#found / 2) do
    sum = sum + found[i].count
    redis.call('HDEL', refused, found[i].field)
  end
  redis.call('HINCRBY', refused, OTHERS, sum)
end

for i = 3, #ARGV, 2 do redis.call('HINCRBY', refused, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', refused, DAYS_TTL_S)
if redis.call('HLEN', refused) > MOST_FIELDS then put_together() end
return 1
