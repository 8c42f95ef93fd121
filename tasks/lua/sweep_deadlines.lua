-- Fail queued jobs that outlived their start timeout, at most a batch of them.
-- ARGV: batch.   Replies: how many.
local now = now_ms()
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
