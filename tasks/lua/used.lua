-- An API key was used now.
-- ARGV: id of the key.   Replies: nothing.
redis.call('HSET', PREFIX .. 'keys:used', ARGV[1], digits(now_ms()))
