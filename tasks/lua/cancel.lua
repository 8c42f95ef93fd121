-- Ask a job to end.  One that nobody works on ends at once; a worker is told on its control channel.
-- ARGV: job_id; made again by the redo buffer, where it ended the job, also the end's id and the one before.
-- Replies: OK, state, whether it had ended before (0 or 1), and of a job that has ended now the end's id, the
--          id before it | SETTLING | GONE.
local id, end_id, place = ARGV[1], ARGV[2], ARGV[3]
local job = fields_of(id, ENDING)
if not job.state then return {is_settling(job, now_ms()) and 'SETTLING' or 'GONE'} end
if job.state ~= 'queued' and not is_claimed(job) then
  return {'OK', job.state, 1, job.end_id, prev_of(id, job.end_id)}
end
local now, lease_end = now_ms(), redis.call('ZSCORE', RUNNING, id)
local is_idle = job.state == 'queued' or not lease_end or tonumber(lease_end) < now
-- Its worker may have ended it, or live and renew it yet, which a restart lost.
local is_open = is_idle and not end_id and is_settling(job, now)
if is_open and job.state == 'queued' then return {'SETTLING'} end
if is_idle and not is_open then
  local is_in_place = end_id and place == job.last
  local state = end_job(id, job, 'cancelled', now, CANCELLED, nil, nil, is_in_place and end_id or nil)
  return {'OK', state, 0, redis.call('HGET', record_key(id), 'end_id'), job.last}
end
redis.call('HSET', record_key(id), 'cancel', 1)
local worker = redis.call('HGET', record_key(id), 'worker')
redis.call('PUBLISH', PREFIX .. 'worker:' .. worker .. ':control', 'cancel ' .. id)
return {'OK', job.state, 0}
