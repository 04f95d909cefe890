-- The open tasks of shards that have just been taken over.
SELECT execution_id, task, kind, status, resource, scheduled_event, attempt, delivery, secret, state, entry, worker,
       heartbeat_seconds, timeout_seconds
  FROM task WHERE shard = ANY ($1::smallint[]) AND outcome IS NULL
 ORDER BY created_at, execution_id, task
