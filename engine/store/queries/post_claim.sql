-- A worker takes a task; the owner finds the TaskStarted event in its inbox. The same worker may ask twice,
-- and one that a claim was handed on to ($7: by whom) takes it over.
WITH won AS (
    UPDATE task SET status = {task.STARTED}, worker = $3, started_at = $5
     WHERE execution_id = $1 AND task = $2 AND secret = $6 AND outcome IS NULL AND (status < {task.STARTED} OR worker = $3 OR worker = $7)
    RETURNING shard, execution_id
)
INSERT INTO inbox (shard, execution_id, event, created_at)
SELECT shard, execution_id, $4, $5 FROM won RETURNING shard
