-- Take tasks from workers whose lease has run out or that no longer have them, unless somebody else has taken them meanwhile
-- or the worker is back.
UPDATE task t SET status = {task.READY}, worker = NULL, delivery = t.delivery + 1
  FROM unnest($1::uuid[], $2::int[], $3::uuid[]) AS r (execution_id, task, worker)
  LEFT JOIN worker w ON w.incarnation = r.worker
 WHERE t.execution_id = r.execution_id AND t.task = r.task AND t.worker = r.worker AND t.outcome IS NULL
   AND (w.expires_at < clock_timestamp() OR w.incarnation IS NULL AND t.started_at < $4
        OR t.started_at < $5 AND NOT replace(t.execution_id::text, '-', '') || '/' || t.task = ANY (w.running))
RETURNING t.execution_id, t.task
