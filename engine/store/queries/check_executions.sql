-- The next executions to check, in the order of their keys, with what hangs on them.
SELECT e.id, e.arn, e.shard, e.rev, e.status, e.last_event, e.snapshot_rev, e.redrive_count,
       EXISTS (SELECT FROM inbox i WHERE i.shard = e.shard AND i.execution_id = e.id) AS has_inbox,
       ARRAY(SELECT t.task FROM task t WHERE t.execution_id = e.id ORDER BY t.task) AS tasks,
       ARRAY(SELECT t.timer FROM timer t WHERE t.execution_id = e.id ORDER BY t.timer) AS timers,
       ARRAY(SELECT t.due_at FROM timer t WHERE t.execution_id = e.id ORDER BY t.timer) AS timers_due,
       ARRAY(SELECT t.kind FROM timer t WHERE t.execution_id = e.id ORDER BY t.timer) AS timer_kinds
  FROM execution e
 WHERE e.id BETWEEN $1 AND $2
 ORDER BY e.id LIMIT $3
