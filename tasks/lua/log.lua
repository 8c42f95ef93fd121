-- Add printed lines to a job's logs.
-- ARGV: job_id, max_lines, then rank, host, stream, ts_ms, text of each line.
-- Replies: OK | GONE.
local id, max_lines = ARGV[1], ARGV[2]
local job = fields_of(id, {'state', 'expires'})
if not job.state then return {'GONE'} end
for i = 3, #ARGV, 5 do
  redis.call('XADD', logs_key(id), 'MAXLEN', '~', max_lines, '*', 'r', ARGV[i], 'h', ARGV[i + 1],
    's', ARGV[i + 2], 't', ARGV[i + 3], 'l', ARGV[i + 4])
end
-- Lines may arrive after the end; then the key is younger than the expiry that end_job gave.
if job.expires then redis.call('PEXPIREAT', logs_key(id), job.expires) end
return {'OK'}
