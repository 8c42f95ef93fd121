-- Keep leases.  One that ran out is renewed all the same while nobody took the job.
-- ARGV: lease_ms, then job_id, fence, token of each claim.
-- Replies: for each claim OWNED | CANCEL (owned, and asked to stop) | LOST.
local lease_end, replies = digits(now_ms() + ARGV[1]), {}
for i = 2, #ARGV, 3 do
  local id, fence, token = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local job, reply = fields_of(id, {'state', 'fence', 'token', 'cancel'}), 'LOST'
  if is_claimed(job) and owns(job, fence, token) then
    redis.call('ZADD', RUNNING, lease_end, id)
    reply = job.cancel and 'CANCEL' or 'OWNED'
  end
  replies[#replies + 1] = reply
end
return replies
