-- A worker gives a job back: it drains, lost the group, or may try again what failed.
-- ARGV: job_id, fence, token, is_loss, is_retry (0 or 1 both), reason (the inside of a JSON
--       string), max_losses, the error that the reason is the message of (JSON object or ''); made again
--       by the redo buffer also the id of its event, and the one before it.
-- Replies: OK, the state that the job is in now, id of its event, the id before it | BEHIND, last seq |
--          GONE | FENCED.
local id, fence, token, is_loss, is_retry = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local reason, max_losses, blame = ARGV[6], tonumber(ARGV[7]), ARGV[8] ~= '' and ARGV[8]
local event_id, place = ARGV[9], ARGV[10]
local job = fields_of(id, ENDING)
if not job.state then return {'GONE'} end
if not owns(job, fence, token) then return {'FENCED'} end
if not is_claimed(job) then return {'OK', job.state, job.last, prev_of(id, job.last)} end
if event_id and place ~= '' and place ~= job.last then return {'BEHIND', tonumber(job.last:match('-(%d+)$'))} end
if is_retry then redis.call('HINCRBY', record_key(id), 'retried', 1) end
local state = give_back(id, job, now_ms(), is_loss, reason, max_losses, blame, event_id)
return {'OK', state, redis.call('HGET', record_key(id), 'last'), job.last}
