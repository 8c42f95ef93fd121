-- A rank group was loaded: starting becomes running.  Writes no event, rank 0 numbers from here on.  Of a
-- warm group append.lua does this with the first event.
-- ARGV: job_id, fence, token.   Replies: OK, cancel asked for (0 or 1) | GONE | FENCED.
local id, fence, token = ARGV[1], ARGV[2], ARGV[3]
local job = fields_of(id, {'state', 'fence', 'token', 'cancel'})
if not job.state then return {'GONE'} end
if not is_claimed(job) or not owns(job, fence, token) then return {'FENCED'} end
redis.call('HSET', record_key(id), 'state', 'running')
redis.call('HSETNX', record_key(id), 'started', digits(now_ms()))
return {'OK', job.cancel and 1 or 0}
