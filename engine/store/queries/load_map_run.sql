-- A Map Run as its owner needs it.
SELECT m.rev, m.arn, m.status, m.execution_id, m.number, e.machine_key, e.revision, r.role_arn, m.state, m.started_at,
       m.stopped_at, m.max_concurrency, m.tolerated_count, m.tolerated_percentage, m.spec, m.progress, m.redriven_at,
       m.express
  FROM map_run m JOIN execution e ON e.id = m.execution_id
  JOIN state_machine_revision r ON r.machine_key = e.machine_key AND r.revision = e.revision
 WHERE m.id = $1
