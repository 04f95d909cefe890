-- Timers of these shards that are due before a moment, soonest first.
SELECT execution_id, timer, due_at FROM timer
 WHERE shard = ANY ($1::smallint[]) AND due_at < $2
 ORDER BY due_at LIMIT $3
