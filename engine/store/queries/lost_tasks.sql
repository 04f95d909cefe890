-- Tasks that were started by a worker whose lease has run out, or by one that lives and no longer has them: its report of the
-- outcome was lost on the way.
SELECT t.execution_id, t.task, t.kind, t.status, t.resource, t.scheduled_event, t.attempt, t.delivery, t.secret, t.state,
       t.entry, t.worker, t.heartbeat_seconds, t.timeout_seconds
  FROM task t LEFT JOIN worker w ON w.incarnation = t.worker
 WHERE t.worker IS NOT NULL AND t.shard = ANY ($1::smallint[]) AND t.outcome IS NULL
   AND (w.expires_at < clock_timestamp() OR w.incarnation IS NULL AND t.started_at < $2
        OR t.started_at < $3 AND NOT replace(t.execution_id::text, '-', '') || '/' || t.task = ANY (w.running))
