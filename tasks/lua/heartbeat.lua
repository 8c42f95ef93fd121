-- A worker says that it is alive.
-- ARGV: worker_id, WorkerInfo as JSON, ttl_ms, forget_ms, then the names of the tasks it serves.
-- Workers unheard for `forget_ms` leave the indexes here, so that no other clean-up is needed.
local id, info, ttl_ms = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
local forgotten = '(' .. digits(now - ARGV[4])
redis.call('SET', PREFIX .. 'worker:' .. id, info, 'PX', ttl_ms)
redis.call('ZADD', PREFIX .. 'workers', digits(now), id)
redis.call('ZREMRANGEBYSCORE', PREFIX .. 'workers', '-inf', forgotten)
for i = 5, #ARGV do
  local serving = PREFIX .. 'serving:' .. ARGV[i]
  redis.call('ZADD', serving, digits(now), id)
  redis.call('ZREMRANGEBYSCORE', serving, '-inf', forgotten)
end
