-- The end of an attempt that has an outcome, and of its job.  A cancel that was asked for decides.
-- ARGV: job_id, fence, token, final seq, state, output ('' for none), error ('' for none), metrics,
--       the error without what is long ('' for none), 1 where events before the final seq are lost for
--       good; made again by the redo buffer also the state decided, the end's id, the id before it: that
--       end stays, whatever was asked for since.
-- Replies: OK, the state decided, the end's id, the id before it | OK, state (another ended it) |
--          BEHIND, last seq | SETTLING | GONE | FENCED | EARLY.
local id, fence, token, final_seq, state = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local output, failure, metrics = ARGV[6] ~= '' and ARGV[6], ARGV[7] ~= '' and ARGV[7], ARGV[8]
local gist, is_cut = ARGV[9] ~= '' and ARGV[9], ARGV[10] == '1'
local decided, end_id, place = ARGV[11], ARGV[12], ARGV[13]
local job = fields_of(id, ENDING)
if not job.state then return {'GONE'} end
if not owns(job, fence, token) or job.state == 'queued' then return {'FENCED'} end
if not is_claimed(job) then
  local ended = event_in(id, job.end_id, job.end_id)
  if not ended or ended.c ~= token then return {'OK', job.state} end
  return {'OK', job.state, job.end_id, prev_of(id, job.end_id)}
end
local last = tonumber(job.last:match('-(%d+)$'))
local now = now_ms()
if last < final_seq or decided and place ~= '' and place ~= job.last then return {'BEHIND', last} end
-- A cancel that was acknowledged may be among what a restart lost.
if not decided and is_settling(job, now) then return {'SETTLING'} end
if decided == 'cancelled' or not decided and job.cancel or state == 'cancelled' then
  state, output, failure, gist = 'cancelled', false, CANCELLED, CANCELLED
elseif state == 'succeeded' and job.state == 'starting' then
  return {'EARLY'}
end
redis.call('HSET', record_key(id), 'metrics', metrics)
end_id = end_id or not is_cut and next_id(job.last) or nil
job.by = token
state = end_job(id, job, state, now, failure, output, gist, end_id)
return {'OK', state, redis.call('HGET', record_key(id), 'end_id'), job.last}
