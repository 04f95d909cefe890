-- An execution with the chunks its position is folded from: from the last full snapshot on, and the first one.
SELECT e.rev, e.status, e.machine_key, e.revision, m.arn AS machine_arn, m.name AS machine_name, r.role_arn, e.name, e.arn, e.started_at,
       e.stopped_at, e.last_event, e.redrive_count, e.redriven_at, e.redrive_token, e.trace_header, e.version_arn,
       e.alias_arn, e.map_run, e.map_item,
       (SELECT mr.state FROM map_run mr WHERE mr.id = e.map_run) AS processor,
       ARRAY(SELECT c.data FROM history_chunk c
              WHERE c.bucket = e.bucket AND c.execution_id = e.id AND c.rev >= greatest(e.snapshot_rev, 1)
              ORDER BY c.rev) AS chunks,
       CASE WHEN e.snapshot_rev > 1 THEN
           (SELECT c.data FROM history_chunk c WHERE c.bucket = e.bucket AND c.execution_id = e.id AND c.rev = 1)
       END AS first_chunk
  FROM execution e JOIN state_machine m ON m.key = e.machine_key
  JOIN state_machine_revision r ON r.machine_key = e.machine_key AND r.revision = e.revision
 WHERE e.id = $1
