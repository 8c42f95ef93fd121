-- Take jobs whose lease ran out, at most a batch of them.
-- ARGV: batch, max_losses.   Replies: how many.
local now = now_ms()
local ids = redis.call('ZRANGE', RUNNING, '-inf', digits(now - 1), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local job = fields_of(id, ENDING)
  if is_claimed(job) then
    give_back(id, job, now, true, 'its worker went silent', tonumber(ARGV[2]))
  else
    redis.call('ZREM', RUNNING, id)
  end
end
return #ids
