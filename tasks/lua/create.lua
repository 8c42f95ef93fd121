-- A job begins: record, indexes and the first event, or nothing at all.
-- ARGV: job_id, task, input, options (JSON both), priority, start_timeout_ms, ttl_ms, max_queued,
--       worker_ttl_ms.
-- Replies: OK, state, queue position (-1 unless queued), live workers, created ms | FULL, queued.
-- Asked again for a job that exists, it says how that job stands and writes nothing.
local id, task, input, options, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local start_timeout_ms, ttl, max_queued, worker_ttl_ms = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local now, queue = now_ms(), queued_key(task)
local workers = redis.call('ZCOUNT', PREFIX .. 'serving:' .. task, digits(now - worker_ttl_ms), '+inf')

local job = fields_of(id, {'state', 'created'})
if job.state then
  return {'OK', job.state, redis.call('ZRANK', queue, id) or -1, workers, job.created}
end
local queued = redis.call('ZCARD', queue)
if queued >= max_queued then return {'FULL', queued} end

local order = redis.call('INCR', PREFIX .. 'order')
local score, deadline = digits(priority * 1e13 + order), digits(now + start_timeout_ms)
redis.call('ZADD', queue, score, id)
redis.call('ZADD', DEADLINES, deadline, id)
redis.call('ZADD', JOBS, order, id)
redis.call('ZADD', jobs_of_key(task), order, id)

local position = redis.call('ZRANK', queue, id)
local first = '{"state":"queued","queue_position":' .. position .. ',"workers":' .. workers
if workers == 0 then first = first .. ',"message":"no worker serves this task now"' end
first = first .. '}'
redis.call('HSET', record_key(id), 'task', task, 'state', 'queued', 'input', input, 'options', options,
  'score', score, 'deadline', deadline, 'ttl', ttl, 'created', digits(now), 'attempt', 0, 'losses', 0,
  'fence', 0, 'first', first)
-- The one XADD that may make a stream; nobody can be listening to this job yet.
redis.call('XADD', events_key(id), '0-1', 'd', first, 'k', 'state', 'p', '0-0')
redis.call('HSET', record_key(id), 'last', '0-1')
return {'OK', 'queued', position, workers, digits(now)}
