-- A job begins: record, indexes and the first event, or nothing at all.
-- ARGV: job_id, task, input, options (JSON both), priority, start_timeout_ms, ttl_ms, max_queued,
--       worker_ttl_ms, total_timeout_ms ('' for none), owner ('' for none), accept_ms ('' for none); with an
--       idempotency key also its key's name, digest of what is asked for; made again by the redo buffer also
--       created ms, order (then without a key both are ''), and what its first event told: queue position,
--       live workers.
-- Replies: OK, job_id, state, queue position (-1 unless queued), live workers, created ms, attempt, and
--          of a new job its order | REUSED, job_id | FULL, queued.
-- Asked again for a job that exists, by its id or its idempotency key, it says how that job stands
-- and writes nothing.
local id, task, input, options, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local start_timeout_ms, ttl, max_queued, worker_ttl_ms = ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local total_timeout_ms, owner = ARGV[10] ~= '' and ARGV[10], ARGV[11] ~= '' and ARGV[11]
local accept_ms = ARGV[12] ~= '' and ARGV[12]
local once, body, created, order = ARGV[13] ~= '' and ARGV[13], ARGV[14], ARGV[15], ARGV[16]
local now, queue = now_ms(), queued_key(task)
-- A job of this run of the server must not be taken for one that is older than it.
met_at(now)
local workers = redis.call('ZCOUNT', PREFIX .. 'serving:' .. task, digits(now - worker_ttl_ms), '+inf')

local function standing(found, job)
  return {'OK', found, job.state, redis.call('ZRANK', queue, found) or -1, workers, job.created, job.attempt}
end

local FIELDS = {'state', 'created', 'attempt'}
local job = fields_of(id, FIELDS)
if job.state then return standing(id, job) end
local held = once and redis.call('GET', once)
-- Its 202 was given, so a job that is made again is made whatever came in between.
if held and not order then
  local held_id, held_body = held:match('^(%S+) (%S+)$')
  job = fields_of(held_id, FIELDS)
  -- A record that somebody deleted by hand leaves its idempotency key behind: that stands for nothing.
  if job.state then
    if held_body ~= body then return {'REUSED', held_id} end
    return standing(held_id, job)
  end
end
local queued = redis.call('ZCARD', queue)
if queued >= max_queued and not order then return {'FULL', queued} end

if order then
  local newest = redis.call('GET', PREFIX .. 'order') or 0
  redis.call('SET', PREFIX .. 'order', digits(math.max(order, newest)))
  redis.call('HSET', record_key(id), 'remade', 1)
else
  order, created = digits(redis.call('INCR', PREFIX .. 'order')), digits(now)
end
local score, deadline = digits(priority * 1e13 + order), digits(created + start_timeout_ms)
redis.call('ZADD', queue, score, id)
local due = total_timeout_ms and digits(created + total_timeout_ms)
watch_deadline(id, {deadline = deadline, due = due})
redis.call('ZADD', JOBS, order, id)
redis.call('ZADD', jobs_of_key(task), order, id)
if owner then redis.call('ZADD', owned_key(owner), order, id) end

local position = redis.call('ZRANK', queue, id)
-- Somebody may have seen the event of a job that is made again.
local told_position, told_workers = ARGV[17] or position, tonumber(ARGV[18] or workers)
local first = '{"state":"queued","queue_position":' .. told_position .. ',"workers":' .. told_workers
if told_workers == 0 then first = first .. ',"message":"no worker serves this task now"' end
first = first .. '}'
redis.call('HSET', record_key(id), 'task', task, 'state', 'queued', 'input', input, 'options', options,
  'score', score, 'deadline', deadline, 'ttl', ttl, 'created', created, 'attempt', 0, 'losses', 0,
  'fence', 0, 'first', first)
if due then redis.call('HSET', record_key(id), 'due', due) end
if owner then redis.call('HSET', record_key(id), 'owner', owner) end
if accept_ms then redis.call('HSET', record_key(id), 'accept', accept_ms) end
if once and not (held and ARGV[16]) then
  -- No time to live: a job may wait for days, and a repeat must find it. end_job gives both one.
  redis.call('SET', once, id .. ' ' .. body)
  redis.call('HSET', record_key(id), 'once', once)
end
-- The one XADD that may make a stream; nobody can be listening to this job yet.
redis.call('XADD', events_key(id), '0-1', 'd', first, 'k', 'state', 'p', '0-0')
redis.call('HSET', record_key(id), 'last', '0-1')
return {'OK', id, 'queued', position, workers, created, '0', order}
