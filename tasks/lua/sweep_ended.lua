-- Take jobs whose time to live is over out of the indexes, at most a batch of them.
-- ARGV: batch.   Replies: how many.
local members = redis.call('ZRANGE', ENDED, '-inf', digits(now_ms() - 1), 'BYSCORE', 'LIMIT', 0, ARGV[1])
for _, member in ipairs(members) do
  local task, id, owner = member:match('^(%S+) (%S+) ?(.*)$')
  redis.call('ZREM', ENDED, member)
  redis.call('ZREM', JOBS, id)
  redis.call('ZREM', jobs_of_key(task), id)
  if owner ~= '' then redis.call('ZREM', owned_key(owner), id) end
  let_log_go(id)
end
return #members
