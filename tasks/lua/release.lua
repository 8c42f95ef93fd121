-- A worker gives a job back: it drains, lost the group, or may try again what failed.
-- ARGV: job_id, fence, token, is_loss, is_retry (0 or 1 both), reason (the inside of a JSON
--       string), max_losses, the error that the reason is the message of (JSON object or ''); made again
--       by the redo buffer also the id of its event, and the one before it.
-- Replies: OK, the state that this made of the job, id of its event, the id before it | OK, state (another
--          gave it back or ended it, and nobody has claimed it since) | BEHIND, last seq | GONE | FENCED.
-- Asked again it finds what it did, also when another has claimed the job since: whoever asks again keeps it
-- for a server that loses it, and with it the place of that claim.
local id, fence, token, is_loss, is_retry = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[5] == '1'
local reason, max_losses, blame = ARGV[6], tonumber(ARGV[7]), ARGV[8] ~= '' and ARGV[8]
local event_id, place = ARGV[9], ARGV[10]
local job = fields_of(id, ENDING)
if not job.state then return {'GONE'} end
if not owns(job, fence, token) or not is_claimed(job) then
  -- The first event after all that have this fence tells who took the job from it.
  local given = event_in(id, digits(fence + 1), '+')
  if given and given.c == token then
    return {'OK', given.id == job.last and job.state or 'queued', given.id, given.p}
  end
  return owns(job, fence, token) and {'OK', job.state} or {'FENCED'}
end
if event_id and place ~= '' and place ~= job.last then return {'BEHIND', tonumber(job.last:match('-(%d+)$'))} end
if is_retry then redis.call('HINCRBY', record_key(id), 'retried', 1) end
job.by = token
local state = give_back(id, job, now_ms(), is_loss, reason, max_losses, blame, event_id)
return {'OK', state, redis.call('HGET', record_key(id), 'last'), job.last}
