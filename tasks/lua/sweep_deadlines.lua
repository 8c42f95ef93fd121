-- Fail queued jobs that outlived their start timeout or their total time, at most a batch of them.
-- ARGV: batch, lease_ms, longest_pause_ms.   Replies: how many.
local now = now_ms()
if not may_expire(now, ARGV[2], ARGV[3]) then return 0 end
local START = '{"kind":"start_timeout","message":"no worker started the job within its start timeout"}'
local TOTAL = '{"kind":"total_timeout","message":"the job did not end within its total time"}'
local ids = redis.call('ZRANGE', DEADLINES, '-inf', digits(now - 1), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local job = fields_of(id, ENDING)
  if job.state == 'queued' then
    local is_first = not job.started and (not job.due or tonumber(job.deadline) <= tonumber(job.due))
    end_job(id, job, 'failed', now, is_first and START or TOTAL)
  else
    redis.call('ZREM', DEADLINES, id)
  end
end
return #ids
