-- Put a message down for the owner of a Map Run.
INSERT INTO inbox (shard, execution_id, event, created_at)
SELECT m.shard, m.id, $2, $3 FROM map_run m WHERE m.id = $1
RETURNING shard
