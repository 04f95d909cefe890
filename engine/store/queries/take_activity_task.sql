-- Hand the oldest waiting task of an activity to one poller; the owner finds the TaskStarted event in its inbox.
WITH next AS (
    SELECT execution_id, task FROM task
     WHERE resource = $1 AND kind = {target.ACTIVITY} AND status = {task.READY} AND outcome IS NULL
     ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE task t SET status = {task.STARTED}, started_at = $2
  FROM next n WHERE t.execution_id = n.execution_id AND t.task = n.task
RETURNING t.execution_id, t.task, t.secret, t.scheduled_event, t.shard
