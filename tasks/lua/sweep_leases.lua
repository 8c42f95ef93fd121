-- Take jobs whose lease ran out, at most a batch of them.
-- ARGV: batch, lease_ms, longest_pause_ms, max_losses.   Replies: how many.
local now = now_ms()
if not may_expire(now, ARGV[2], ARGV[3]) then return 0 end
local ids = redis.call('ZRANGE', RUNNING, '-inf', digits(now - 1), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local job = fields_of(id, ENDING)
  if is_claimed(job) then
    give_back(id, job, now, true, 'its worker went silent', tonumber(ARGV[4]))
  else
    redis.call('ZREM', RUNNING, id)
  end
end
return #ids
