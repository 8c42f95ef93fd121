-- The end of an attempt that has an outcome, and of its job.  A cancel that was asked for decides.
-- ARGV: job_id, fence, token, final seq, state, output ('' for none), error ('' for none), metrics,
--       the error without what is long ('' for none).
-- Replies: OK, the state decided | BEHIND, last seq | GONE | FENCED | EARLY.
local id, fence, token, final_seq, state = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local output, failure, metrics = ARGV[6] ~= '' and ARGV[6], ARGV[7] ~= '' and ARGV[7], ARGV[8]
local gist = ARGV[9] ~= '' and ARGV[9]
local job = fields_of(id, ENDING)
if not job.state then return {'GONE'} end
if not owns(job, fence, token) or job.state == 'queued' then return {'FENCED'} end
if not is_claimed(job) then return {'OK', job.state} end
local last = tonumber(job.last:match('-(%d+)$'))
if last < final_seq then return {'BEHIND', last} end
if job.cancel or state == 'cancelled' then
  state, output, failure, gist = 'cancelled', false, CANCELLED, CANCELLED
elseif state == 'succeeded' and job.state == 'starting' then
  return {'EARLY'}
end
redis.call('HSET', record_key(id), 'metrics', metrics)
return {'OK', end_job(id, job, state, now_ms(), failure, output, gist)}
