-- Take a job from a worker that is known to have died.
-- ARGV: job_id, worker, max_losses.   Replies: whether that worker had it (0 or 1).
local id, worker = ARGV[1], ARGV[2]
local job = fields_of(id, ENDING)
if not is_claimed(job) or redis.call('HGET', record_key(id), 'worker') ~= worker then return 0 end
give_back(id, job, now_ms(), true, 'its worker died', tonumber(ARGV[3]))
return 1
