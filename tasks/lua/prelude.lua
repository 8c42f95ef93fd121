-- Put before every script by connect.py: names of keys, the clock, and the few moves that several
-- scripts share.  Rules for all scripts: check first and write after; never pcall (what it wrote
-- before an error stays); times in ms only (Lua prints microseconds as 1e+15).  Only create.lua
-- makes a job's keys.  Names are composed here and not passed as KEYS, because a script learns a
-- job's task from its record; a deployment's jobs live on one primary.

local PREFIX = 'rankcast:'
local RUNNING, DEADLINES, ENDED, JOBS = PREFIX .. 'running', PREFIX .. 'deadlines', PREFIX .. 'ended', PREFIX .. 'jobs'
local SWEEPS, DEPLOYMENT = PREFIX .. 'sweeps', PREFIX .. 'deployment'
local KEPT, KEPT_BYTES, KEPT_TOTAL = PREFIX .. 'kept', PREFIX .. 'kept:bytes', PREFIX .. 'kept:total'
-- A batch with an event of more data than this is published without frames; readers take it from the log.
local MAX_PUBLISHED, MAX_INLINE_OUTPUT = 65536, 65536
local CANCELLED = '{"kind":"cancelled","message":"the job was cancelled"}'
-- A job that is drained again and again has any number of attempts; its record shows the newest.
local MAX_ATTEMPTS = 20
-- After a restart every process that lives has called within a second of the first of them.
local SETTLE_MS = 2000

local function record_key(id) return PREFIX .. 'job:' .. id end
local function events_key(id) return PREFIX .. 'job:' .. id .. ':events' end
local function marks_key(id) return PREFIX .. 'job:' .. id .. ':marks' end
local function logs_key(id) return PREFIX .. 'job:' .. id .. ':logs' end
local function live_channel(id) return PREFIX .. 'job:' .. id .. ':live' end
local function queued_key(task) return PREFIX .. 'queued:' .. task end
local function jobs_of_key(task) return PREFIX .. 'jobs:' .. task end
local function owned_key(owner) return PREFIX .. 'owned:' .. owner end

local function digits(number) return string.format('%.0f', number) end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The named fields of a job's record; false where missing, `state` too when there is no such job.
local function fields_of(id, names)
  local values = redis.call('HMGET', record_key(id), unpack(names))
  local job = {}
  for i, name in ipairs(names) do job[name] = values[i] end
  return job
end

local function is_claimed(job) return job.state == 'starting' or job.state == 'running' end
local function owns(job, fence, token) return job.fence == fence and job.token == token end

local function next_id(last)
  local fence, seq = last:match('^(%d+)-(%d+)$')
  return fence .. '-' .. digits(seq + 1)
end

-- A fence that nobody has, for whoever ends a job or gives it back: within the claim's fence its event
-- could be taken for one of rank 0's that a restart lost and rank 0 sends again.
local function fresh_fence(job, now)
  return digits(math.max(job.last:match('^%d+') + 1, job.fence + 1, now - job.created))
end

-- The first event of the log from one id to another, its fields by their names and `id`; nil if there is none.
local function event_in(id, from, to)
  local entry = redis.call('XRANGE', events_key(id), from, to, 'COUNT', 1)[1]
  if not entry then return nil end
  local event = {id = entry[1]}
  for i = 1, #entry[2], 2 do event[entry[2][i]] = entry[2][i + 1] end
  return event
end

-- The id before an event that is in the log; '' for one that is not.
local function prev_of(id, event_id)
  local event = event_in(id, event_id, event_id)
  if not event then return '' end
  if event.p then return event.p end
  local fence, seq = event_id:match('^(%d+)-(%d+)$')
  return fence .. '-' .. digits(seq - 1)
end

-- What viewers are sent of an event, as live.frame makes it.
local function frame(event_id, kind, data)
  if data == '' then data = 'null' end
  if data:find('\n', 1, true) or data:find('\r', 1, true) then data = data:gsub('[\r\n]', ' ') end
  local named = kind == '' and '' or 'event: ' .. kind .. '\n'
  return 'id: ' .. event_id .. '\n' .. named .. 'data: ' .. data .. '\n\n'
end

-- Tell who follows the job of a batch (live.py); `frames` is '' where one of its events is too large.
local function publish(id, prev, last, is_end, frames)
  redis.call('PUBLISH', live_channel(id), prev .. ' ' .. last .. ' ' .. (is_end and 1 or 0) .. '\n' .. frames)
end

-- Add one event of a kind that only scripts write.  `prev` is kept where it cannot be computed:
-- on the first event of a fence; `by` is the token of the claim whose owner ends the job or gives it back.
local function write_event(id, prev, event_id, kind, data, by)
  local entry = {'XADD', events_key(id), 'NOMKSTREAM', event_id, 'd', data, 'k', kind}
  if event_id:sub(-2) == '-1' then
    entry[#entry + 1] = 'p'
    entry[#entry + 1] = prev
  end
  if by then
    entry[#entry + 1] = 'c'
    entry[#entry + 1] = by
  end
  redis.call(unpack(entry))
  redis.call('HSET', record_key(id), 'last', event_id)
  local is_small = #data <= MAX_PUBLISHED
  publish(id, prev, event_id, kind == 'end', is_small and frame(event_id, kind, data) or '')
end

-- A queued job must start once by its `deadline`, and end by `due` if it has that.
local function watch_deadline(id, job)
  local latest = not job.started and job.deadline
  if job.due and (not latest or tonumber(job.due) < tonumber(latest)) then latest = job.due end
  if latest then redis.call('ZADD', DEADLINES, latest, id) end
end

-- What end_job and give_back need to know of a job; and `by`, as in write_event.
local ENDING = {'state', 'task', 'last', 'fence', 'token', 'attempt', 'losses', 'cancel', 'score', 'started',
                'deadline', 'due', 'ttl', 'once', 'current', 'attempts', 'bytes', 'created', 'end_id', 'owner'}

-- The attempt that is over, if there was one, joins the others in the record: one JSON object a line.
local function close_attempt(id, job, now, failure)
  if not is_claimed(job) or not job.current then return end
  local line = job.current .. ',"ended_ms":' .. digits(now) .. ',"error":' .. (failure or 'null') .. '}'
  local lines = job.attempts and job.attempts .. '\n' .. line or line
  local _, breaks = lines:gsub('\n', '')
  if breaks >= MAX_ATTEMPTS then lines = lines:match('\n(.*)$') end
  redis.call('HSET', record_key(id), 'attempts', lines)
  redis.call('HDEL', record_key(id), 'current')
end

-- The logs of ended jobs have one bound for all of them, so what each takes is noted at its end ...
local function keep_log(id, bytes, now)
  local before = redis.call('HGET', KEPT_BYTES, id) or 0
  redis.call('ZADD', KEPT, digits(now), id)
  redis.call('HSET', KEPT_BYTES, id, bytes)
  redis.call('INCRBY', KEPT_TOTAL, digits(bytes - before))
end

-- ... until it is trimmed, or its job is forgotten.
local function let_log_go(id)
  local bytes = redis.call('HGET', KEPT_BYTES, id)
  redis.call('ZREM', KEPT, id)
  redis.call('HDEL', KEPT_BYTES, id)
  if redis.call('EXISTS', KEPT) == 0 then
    -- Whatever the sum was: of nothing it is nothing.
    redis.call('DEL', KEPT_TOTAL)
  elseif bytes then
    redis.call('DECRBY', KEPT_TOTAL, bytes)
  end
end

-- The one end of a job: last event, record, indexes, and one expiry for all its keys.  `gist` is the
-- failure without what is too long to be kept for every attempt; `end_id` where the owner of the claim
-- ends it, or a restart lost that end.
local function end_job(id, job, state, now, failure, output, gist, end_id)
  close_attempt(id, job, now, gist or failure)
  local data = '{"state":"' .. state .. '","attempt":' .. job.attempt
  if output and #output <= MAX_INLINE_OUTPUT then data = data .. ',"output":' .. output end
  if failure then data = data .. ',"error":' .. failure end
  end_id = end_id or fresh_fence(job, now) .. '-1'
  write_event(id, job.last, end_id, 'end', data .. '}', job.by)
  local record = record_key(id)
  redis.call('HSET', record, 'state', state, 'ended', digits(now), 'end_id', end_id)
  if failure then redis.call('HSET', record, 'error', failure) end
  if output then redis.call('HSET', record, 'output', output) end
  redis.call('ZREM', queued_key(job.task), id)
  redis.call('ZREM', RUNNING, id)
  redis.call('ZREM', DEADLINES, id)
  local expiry = digits(now + job.ttl)
  redis.call('HSET', record, 'expires', expiry)
  redis.call('ZADD', ENDED, expiry, job.task .. ' ' .. id .. (job.owner and ' ' .. job.owner or ''))
  for _, key in ipairs({record, events_key(id), marks_key(id), logs_key(id)}) do
    redis.call('PEXPIREAT', key, expiry)
  end
  if job.once then redis.call('PEXPIREAT', job.once, expiry) end
  if job.bytes and job.bytes ~= '0' then keep_log(id, job.bytes, now) end
  return state
end

-- An attempt is over without an outcome: back to the queue in the old order, unless the job was
-- cancelled or has been lost too often.  `reason` is the inside of a JSON string; `blame` the error
-- that it is the message of, a JSON object, by default the worker's loss; `event_id` as in end_job.
local function give_back(id, job, now, is_loss, reason, max_losses, blame, event_id)
  blame = blame or (is_loss and '{"kind":"worker_lost"}')
  local function told(message) return blame and blame:sub(1, -2) .. ',"message":"' .. message .. '"}' end
  if job.cancel then return end_job(id, job, 'cancelled', now, CANCELLED, nil, nil, event_id) end
  local losses = tonumber(job.losses)
  if is_loss then
    losses = losses + 1
    redis.call('HSET', record_key(id), 'losses', losses)
    if losses >= max_losses then
      local message = 'attempt ' .. job.attempt .. ' was lost, as ' .. (losses - 1) .. ' before it: ' .. reason
      return end_job(id, job, 'failed', now, told(message), nil, told(reason), event_id)
    end
  end
  close_attempt(id, job, now, told(reason))
  redis.call('HSET', record_key(id), 'state', 'queued')
  redis.call('ZREM', RUNNING, id)
  redis.call('ZADD', queued_key(job.task), job.score, id)
  watch_deadline(id, job)
  local position = redis.call('ZRANK', queued_key(job.task), id)
  event_id = event_id or fresh_fence(job, now) .. '-1'
  write_event(id, job.last, event_id, 'state', '{"state":"queued","attempt":' .. job.attempt ..
    ',"queue_position":' .. position .. ',"message":"' .. reason .. '"' ..
    (blame and ',"error":' .. told(reason) or '') .. '}', job.by)
  return 'queued'
end

-- What the server tells of itself; '' where INFO is unknown or kept from us.
local function info(section)
  -- The one pcall: it reads, so there is nothing that an error could leave half written.
  local told = redis.pcall('INFO', section)
  return type(told) == 'string' and told or ''
end

-- Differs after every restart of the server; '' where it is not told.
local function run_id() return info('server'):match('run_id:(%x+)') or '' end

-- When this run of the server was first met by a script that asks, in ms; nil where INFO is kept from us,
-- and of the first run ever, before which nothing can have been lost, 0.
local function met_at(now)
  local run = run_id()
  if run == '' then return nil end
  local known, met = unpack(redis.call('HMGET', SWEEPS, 'met_run', 'met'))
  if known == run then return tonumber(met) end
  met = known and now or 0
  redis.call('HSET', SWEEPS, 'met_run', run, 'met', digits(met))
  return met
end

-- Whether processes may not have made their moves on this job again yet, because the server was restarted
-- a moment ago: until then nobody else claims or ends it, and if it is missing nobody takes it for gone.
-- Nothing of a job that is younger was lost.
local function is_settling(job, now)
  local met = met_at(now)
  return met and now < met + SETTLE_MS and (not job.created or tonumber(job.created) < met)
end

-- Whether a lease or start deadline that ran out may be held against anybody now; called by every
-- sweep.  Redis' clock goes on while Redis is down or its host stands still, and the first sweep can
-- be quicker than the first renew: so after that everybody gets one whole lease of grace.  No sweep
-- before this one, ever, means that nobody has waited for anything.
local function may_expire(now, lease_ms, longest_pause_ms)
  local at, seen, grace = unpack(redis.call('HMGET', SWEEPS, 'at', 'run_id', 'grace'))
  local run = run_id()
  -- One sweeper may see INFO and the next one not: only two runs that were seen can differ.
  if run == '' then run = seen or '' end
  local is_new_run = seen and seen ~= '' and seen ~= run
  -- A clock that was set back counts as a pause too: its times say nothing.
  if at and (is_new_run or math.abs(now - at) > tonumber(longest_pause_ms)) then grace = now + lease_ms end
  redis.call('HSET', SWEEPS, 'at', digits(now), 'run_id', run, 'grace', digits(grace or 0))
  met_at(now)
  return now >= tonumber(grace or 0)
end

