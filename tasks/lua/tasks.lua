-- What is registered, and how many live workers serve each.
-- ARGV: worker_ttl_ms, the name of one task or '' for all.
-- Replies: for each task its TaskInfo as JSON, live workers.
local alive, name, found = digits(now_ms() - ARGV[1]), ARGV[2], {}
local registered = {}
if name == '' then
  registered = redis.call('HGETALL', PREFIX .. 'tasks')
else
  local info = redis.call('HGET', PREFIX .. 'tasks', name)
  if info then registered = {name, info} end
end
for i = 1, #registered, 2 do
  found[#found + 1] = registered[i + 1]
  found[#found + 1] = redis.call('ZCOUNT', PREFIX .. 'serving:' .. registered[i], alive, '+inf')
end
return found
