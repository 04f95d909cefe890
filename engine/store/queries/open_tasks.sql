-- Tasks of these shards that wait for somebody to start them; activities are asked for, not sent.
SELECT execution_id, task, kind, status, resource, scheduled_event, attempt, delivery, secret, state, entry, worker,
       heartbeat_seconds, timeout_seconds
  FROM task WHERE shard = ANY ($1::smallint[]) AND outcome IS NULL AND status < {task.STARTED}
 ORDER BY created_at, execution_id, task
