-- Ask a job to end.  One that nobody works on ends at once; a worker is told on its control channel.
-- ARGV: job_id.   Replies: OK, state, whether it had ended before (0 or 1) | GONE.
local id = ARGV[1]
local job = fields_of(id, ENDING)
if not job.state then return {'GONE'} end
if job.state ~= 'queued' and not is_claimed(job) then return {'OK', job.state, 1} end
local now, lease_end = now_ms(), redis.call('ZSCORE', RUNNING, id)
if job.state == 'queued' or not lease_end or tonumber(lease_end) < now then
  return {'OK', end_job(id, job, 'cancelled', now, CANCELLED), 0}
end
redis.call('HSET', record_key(id), 'cancel', 1)
local worker = redis.call('HGET', record_key(id), 'worker')
redis.call('PUBLISH', PREFIX .. 'worker:' .. worker .. ':control', 'cancel ' .. id)
return {'OK', job.state, 0}
