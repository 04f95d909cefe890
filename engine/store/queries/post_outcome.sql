-- The first durable outcome of a task wins; the owner finds it in its inbox.
WITH won AS (
    UPDATE task SET outcome = $4 WHERE execution_id = $1 AND task = $2 AND secret = $3 AND outcome IS NULL
    RETURNING shard, execution_id
)
INSERT INTO inbox (shard, execution_id, event, created_at)
SELECT shard, execution_id, $4, $5 FROM won RETURNING shard
