-- Fail queued jobs that outlived their start timeout, at most a batch of them.
-- ARGV: batch, lease_ms, longest_pause_ms.   Replies: how many.
local now = now_ms()
if not may_expire(now, ARGV[2], ARGV[3]) then return 0 end
local ids = redis.call('ZRANGE', DEADLINES, '-inf', digits(now - 1), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local job = fields_of(id, ENDING)
  if job.state == 'queued' then
    end_job(id, job, 'failed', now,
      '{"kind":"start_timeout","message":"no worker started the job within its start timeout"}')
  else
    redis.call('ZREM', DEADLINES, id)
  end
end
return #ids
