-- A worker says that it is alive.
-- ARGV: worker_id, WorkerInfo as JSON, ttl_ms, forget_ms, then name and TaskInfo (or '') of each task it
--       serves.
-- Workers unheard for `forget_ms` leave the indexes here, so that no other clean-up is needed.
local id, info, ttl_ms = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local forgotten = '(' .. digits(now - ARGV[4])
redis.call('SET', PREFIX .. 'worker:' .. id, info, 'PX', ttl_ms)
redis.call('ZADD', PREFIX .. 'workers', digits(now), id)
redis.call('ZREMRANGEBYSCORE', PREFIX .. 'workers', '-inf', forgotten)
for i = 5, #ARGV, 2 do
  local serving = PREFIX .. 'serving:' .. ARGV[i]
  redis.call('ZADD', serving, digits(now), id)
  redis.call('ZREMRANGEBYSCORE', serving, '-inf', forgotten)
  if ARGV[i + 1] ~= '' then redis.call('HSETNX', PREFIX .. 'tasks', ARGV[i], ARGV[i + 1]) end
end
