-- An attempt begins: the job named if it is queued and none is more urgent, else the head of the
-- task's queue, else none.
-- ARGV: task, token, job_id or '', worker, lease_ms, detail (JSON members for the event, each with a
--       comma before it), token_ttl_ms, a random name for the deployment if it has none; made again by
--       the redo buffer also the fence it got, and the event before its own: then it is this claim of the
--       job named, at this place of its log, or none.
-- Replies: OK, job_id, fence, attempt, options, input, retries used up, checkpoint (JSON or ''), the
--          deployment's name, the event before its own, owner ('' for none) | NONE.
-- Asked again with a token that holds a job, it answers with that same claim.
local task, token, named, worker = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local lease_ms, detail, token_ttl_ms, deployment = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local again, place = ARGV[9], ARGV[10]
local FIELDS = {'state', 'task', 'last', 'fence', 'token', 'attempt', 'created', 'options', 'input', 'score',
                'retried', 'remade', 'checkpoint', 'owner'}

local function priority_of(score) return math.floor(score / 1e13) end

-- By the time of an answer a claim, the first of all or this one, has named the deployment.
local function claimed(id, fence, attempt, job, prev)
  return {'OK', id, fence, attempt, job.options, job.input, tonumber(job.retried or 0), job.checkpoint or '',
    redis.call('GET', DEPLOYMENT), prev, job.owner or ''}
end

local token_key = PREFIX .. 'claim:' .. token
local held = redis.call('GET', token_key)
if held then
  local job = fields_of(held, FIELDS)
  if is_claimed(job) and job.token == token then
    return claimed(held, job.fence, job.attempt, job, prev_of(held, job.fence .. '-1'))
  end
end

local id, job = named, {}
if named ~= '' then job = fields_of(named, FIELDS) end
-- A rank that met Redis while the job itself was missing has given up: that job begins anew.
if again and (job.state ~= 'queued' or job.remade or place ~= '' and job.last ~= place or
    tonumber(job.fence) >= tonumber(again)) then
  return {'NONE'}
end
-- Wake-ups come in the order of submission, and queues of messages know nothing of priority.
local head = redis.call('ZRANGE', queued_key(task), 0, 0, 'WITHSCORES')
if job.score and head[2] and not again and priority_of(head[2]) < priority_of(job.score) then job = {} end
while job.state ~= 'queued' or job.task ~= task do
  id = redis.call('ZRANGE', queued_key(task), 0, 0)[1]
  if not id then return {'NONE'} end
  job = fields_of(id, FIELDS)
  -- An id whose record somebody deleted by hand must not stop the queue behind it.
  if not job.state then redis.call('ZREM', queued_key(task), id) end
end

local now = now_ms()
if not again and is_settling(job, now) then return {'NONE'} end
-- Larger than every fence before it, also than one that Redis forgot when it lost its tail.
local fence = again or fresh_fence(job, now)
local attempt = digits(job.attempt + 1)
redis.call('ZREM', queued_key(task), id)
redis.call('ZREM', DEADLINES, id)
redis.call('ZADD', RUNNING, digits(now + lease_ms), id)
redis.call('HSET', record_key(id), 'state', 'starting', 'fence', fence, 'token', token, 'attempt', attempt,
  'worker', worker, 'current', '{"attempt":' .. attempt .. ',"started_ms":' .. digits(now) .. detail)
redis.call('HSETNX', record_key(id), 'claimed', digits(now))
if job.remade then redis.call('HDEL', record_key(id), 'remade') end
redis.call('SET', token_key, id, 'PX', token_ttl_ms)
redis.call('SET', DEPLOYMENT, deployment, 'NX')
write_event(id, job.last, fence .. '-1', 'state', '{"state":"starting","attempt":' .. attempt .. detail .. '}')
return claimed(id, fence, attempt, job, job.last)
