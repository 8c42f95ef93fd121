-- A worker gives a job back: it drains, or lost the group.
-- ARGV: job_id, fence, token, is_loss (0 or 1), reason (the inside of a JSON string), max_losses.
-- Replies: OK, the state that the job is in now | GONE | FENCED.
local id, fence, token, is_loss, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5]
local job = fields_of(id, ENDING)
if not job.state then return {'GONE'} end
if not owns(job, fence, token) then return {'FENCED'} end
if not is_claimed(job) then return {'OK', job.state} end
return {'OK', give_back(id, job, now_ms(), is_loss, reason, tonumber(ARGV[6]))}
