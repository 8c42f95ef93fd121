-- Add a batch of events to a running job's log, and publish them in one message.
-- ARGV: job_id, fence, token, seq of the first event, progress (JSON or ''), max_bytes, max_events,
--       mark_bytes, mark_events, then kind, data of each event.  The data of a `checkpoint` event is the
--       record's checkpoint from then on.
-- Replies: OK, last seq, cancel asked for (0 or 1) | BEHIND, last seq | GONE | FENCED | FORGOTTEN.
local HEAD, ENTRY_BYTES = 9, 32  -- arguments before the events; what an entry costs beside its data
local id, fence, token, first, progress = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local max_bytes, max_events = tonumber(ARGV[6]), tonumber(ARGV[7])
local mark_bytes, mark_events = tonumber(ARGV[8]), tonumber(ARGV[9])

local job = fields_of(id, {'state', 'fence', 'token', 'cancel', 'last', 'bytes', 'open_bytes', 'open_events'})
if not job.state or redis.call('EXISTS', events_key(id)) == 0 then return {'GONE'} end
if not is_claimed(job) or not owns(job, fence, token) then
  -- Fences only grow: one that is larger than the record's is of a claim that a restart lost.
  local is_open = is_claimed(job) or job.state == 'queued'
  if is_open and tonumber(job.fence) < tonumber(fence) then return {'FORGOTTEN'} end
  return {'FENCED'}
end
-- The claim wrote the first event of this fence, so `last` is of this fence.
local last = tonumber(job.last:match('-(%d+)$'))
if first > last + 1 then return {'BEHIND', last} end

local events, cancel, start = events_key(id), job.cancel and 1 or 0, last + 1
local frames, is_small, added, seq, checkpoint = {}, true, 0, last, nil
for i = HEAD + 1 + 2 * (start - first), #ARGV, 2 do
  local kind, data = ARGV[i], ARGV[i + 1]
  seq = seq + 1
  local event_id = fence .. '-' .. seq
  if kind == '' then
    redis.call('XADD', events, 'NOMKSTREAM', event_id, 'd', data)
  else
    redis.call('XADD', events, 'NOMKSTREAM', event_id, 'd', data, 'k', kind)
  end
  if kind == 'checkpoint' then checkpoint = data end
  is_small = is_small and #data <= MAX_PUBLISHED
  if is_small then frames[#frames + 1] = frame(event_id, kind, data) end
  added = added + #data + ENTRY_BYTES
end
if seq == last then return {'OK', last, cancel} end

local last_id, record = fence .. '-' .. seq, record_key(id)
if job.state == 'starting' then
  -- Who has the claim and an event has started. A warm group says so by its first event; of another a
  -- restart may have lost the start, and its keeper may be slower.
  redis.call('HSET', record, 'state', 'running')
  redis.call('HSETNX', record, 'started', digits(now_ms()))
end
local bytes = (job.bytes or 0) + added
local open_bytes, open_events = (job.open_bytes or 0) + added, (job.open_events or 0) + seq - last
if open_bytes >= mark_bytes or open_events >= mark_events then
  redis.call('RPUSH', marks_key(id), last_id .. ',' .. open_bytes)
  open_bytes, open_events = 0, 0
end
while bytes > max_bytes or redis.call('XLEN', events) > max_events do
  local mark = redis.call('LPOP', marks_key(id))
  if not mark then break end
  local trimmed, size = mark:match('^(.-),(%d+)$')
  redis.call('XTRIM', events, 'MINID', '=', next_id(trimmed))
  redis.call('HSET', record, 'trimmed', trimmed)
  bytes = bytes - size
end
redis.call('HSET', record, 'last', last_id, 'bytes', bytes, 'open_bytes', open_bytes, 'open_events', open_events)
if progress ~= '' then redis.call('HSET', record, 'progress', progress) end
if checkpoint then redis.call('HSET', record, 'checkpoint', checkpoint) end
publish(id, job.last, last_id, false, is_small and table.concat(frames) or '')
return {'OK', seq, cancel}
