-- Trim the event logs of ended jobs until all of them together are within their bound: those that
-- ended first go first, each down to `end` (0-1 is in the record), at most a batch of them.
-- ARGV: batch, max_bytes ('' for half of the server's maxmemory, or no bound where it has none).
-- Replies: how many.
local function half_of_memory()
  local bytes = tonumber(info('memory'):match('maxmemory:(%d+)') or 0)
  return bytes > 0 and bytes / 2 or math.huge
end

local total = tonumber(redis.call('GET', KEPT_TOTAL) or 0)
if total == 0 then return 0 end
local max_bytes = tonumber(ARGV[2]) or half_of_memory()
local trimmed = 0
for _, id in ipairs(redis.call('ZRANGE', KEPT, 0, ARGV[1] - 1)) do
  if total <= max_bytes then break end
  total = total - (redis.call('HGET', KEPT_BYTES, id) or 0)
  local end_id = redis.call('HGET', record_key(id), 'end_id')
  -- Where its time to live is over, sweep_ended has not come by yet.
  if end_id then
    local fence, seq = end_id:match('^(%d+)-(%d+)$')
    redis.call('XTRIM', events_key(id), 'MINID', '=', end_id)
    redis.call('DEL', marks_key(id))
    redis.call('HSET', record_key(id), 'trimmed', fence .. '-' .. digits(seq - 1), 'bytes', 0)
  end
  let_log_go(id)
  trimmed = trimmed + 1
end
return trimmed
