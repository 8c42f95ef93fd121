-- Whether jobs that were not found are gone; else whoever has them may tell a restarted server of them yet.
-- ARGV: job_ids.   Replies: GONE | SETTLING.
local now = now_ms()
for _, id in ipairs(ARGV) do
  local job = fields_of(id, {'state', 'created'})
  if job.state or is_settling(job, now) then return {'SETTLING'} end
end
return {'GONE'}
