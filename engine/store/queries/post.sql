-- Put an event down for the owner of an execution.
INSERT INTO inbox (shard, execution_id, event, created_at)
SELECT e.shard, e.id, $2, $3 FROM execution e WHERE e.id = $1
RETURNING shard
