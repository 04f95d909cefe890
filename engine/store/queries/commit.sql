-- Write the steps of many executions in one statement, behind both fences: the shard rows locked FOR SHARE must belong to this
-- node (epoch fence), and an execution must stand at the revision its step was computed from (revision fence).
WITH fence AS MATERIALIZED (
    SELECT id FROM shard WHERE id = ANY ($1::smallint[]) AND owner = $2 ORDER BY id FOR SHARE
), closing AS MATERIALIZED (
    -- Tasks this batch closes or marks as started, locked so that an outcome or claim that another node has just made
    -- durable is seen here and not overwritten: the first durable outcome wins.
    SELECT t.execution_id, (t.outcome IS NOT NULL AND NOT c.known) OR (c.worker IS NOT NULL AND t.worker <> c.worker) AS void
      FROM unnest($3::uuid[], $4::int[], $5::bool[], $6::uuid[]) AS c (execution_id, task, known, worker)
      JOIN task t ON t.execution_id = c.execution_id AND t.task = c.task
     ORDER BY t.execution_id, t.task
       FOR UPDATE OF t
), void AS MATERIALIZED (
    SELECT DISTINCT execution_id FROM closing WHERE void
), stepped AS (
    UPDATE execution e
       SET rev = e.rev + 1, status = u.status, last_event = u.last_event,
           stopped_at = CASE WHEN u.status > 1 THEN coalesce(u.stopped_at, e.stopped_at) END,
           snapshot_rev = CASE WHEN u.full_snapshot THEN e.rev + 1 ELSE e.snapshot_rev END,
           redrive_count = u.redrive_count, redriven_at = u.redriven_at,
           redrive_token = coalesce(u.redrive_token, e.redrive_token)
      FROM unnest($7::uuid[], $8::smallint[], $9::int[], $10::smallint[], $11::bigint[], $12::int[], $13::bool[],
                  $14::smallint[], $15::bigint[], $16::text[])
           AS u (id, shard, rev, status, stopped_at, last_event, full_snapshot, redrive_count, redriven_at, redrive_token)
      JOIN fence f ON f.id = u.shard
     WHERE e.id = u.id AND e.rev = u.rev AND NOT EXISTS (SELECT FROM void v WHERE v.execution_id = u.id)
    RETURNING e.id, e.rev, e.bucket, e.shard, e.machine_key, e.redrive_count
), begun AS (
    INSERT INTO execution (id, shard, rev, status, stopped_at, last_event, machine_key, revision, name, arn, bucket,
                           started_at, trace_header, version_arn, alias_arn, snapshot_rev, redrive_count)
    SELECT n.id, n.shard, 1, n.status, n.stopped_at, n.last_event, n.machine_key, n.revision, n.name, n.arn, n.bucket,
           n.started_at, n.trace_header, n.version_arn, n.alias_arn, 0, 0
      FROM unnest($17::uuid[], $18::smallint[], $19::smallint[], $20::bigint[], $21::int[], $22::int[], $23::int[],
                  $24::text[], $25::text[], $26::int[], $27::bigint[], $28::text[], $29::text[], $30::text[])
           AS n (id, shard, status, stopped_at, last_event, machine_key, revision, name, arn, bucket, started_at,
                 trace_header, version_arn, alias_arn)
      JOIN fence f ON f.id = n.shard
     ORDER BY n.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, rev, bucket, shard, machine_key, redrive_count
), done AS MATERIALIZED (
    SELECT * FROM stepped UNION ALL SELECT * FROM begun
), chunked AS (
    INSERT INTO history_chunk (bucket, execution_id, rev, first_event, last_event, data)
    SELECT d.bucket, d.id, d.rev, c.first_event, c.last_event, c.data
      FROM unnest($31::uuid[], $32::int[], $33::int[], $34::bytea[]) AS c (id, first_event, last_event, data)
      JOIN done d ON d.id = c.id
), tasks_new AS (
    INSERT INTO task (execution_id, task, shard, kind, status, resource, scheduled_event, attempt, secret, state, entry,
                      heartbeat_seconds, timeout_seconds, created_at)
    SELECT d.id, n.task, d.shard, n.kind, 1, n.resource, n.scheduled_event, n.attempt, n.secret, n.state, n.entry,
           n.heartbeat_seconds, n.timeout_seconds, $35
      FROM unnest($36::uuid[], $37::int[], $38::smallint[], $39::text[], $40::int[], $41::int[], $42::bytea[], $43::text[],
                  $44::int[], $45::int[], $46::int[])
           AS n (id, task, kind, resource, scheduled_event, attempt, secret, state, entry, heartbeat_seconds,
                 timeout_seconds)
      JOIN done d ON d.id = n.id
), tasks_closed AS (
    DELETE FROM task t USING unnest($47::uuid[], $48::int[]) AS c (id, task), done d
     WHERE d.id = c.id AND t.execution_id = c.id AND t.task = c.task
), tasks_started AS (
    UPDATE task t SET status = 3, worker = s.worker, started_at = $35
      FROM unnest($49::uuid[], $50::int[], $51::uuid[]) AS s (id, task, worker), done d
     WHERE d.id = s.id AND t.execution_id = s.id AND t.task = s.task
), timers_new AS (
    INSERT INTO timer (execution_id, timer, shard, due_at, kind, task)
    SELECT d.id, n.timer, d.shard, n.due_at, n.kind, n.task
      FROM unnest($52::uuid[], $53::int[], $54::bigint[], $55::smallint[], $56::int[]) AS n (id, timer, due_at, kind, task)
      JOIN done d ON d.id = n.id
), timers_gone AS (
    DELETE FROM timer t USING unnest($57::uuid[], $58::int[]) AS g (id, timer), done d
     WHERE d.id = g.id AND t.execution_id = g.id AND t.timer = g.timer
), inbox_gone AS (
    DELETE FROM inbox i USING unnest($59::uuid[], $60::smallint[], $61::bigint[]) AS g (id, shard, row), done d
     WHERE d.id = g.id AND i.shard = g.shard AND i.id = g.row
), letters AS (
    INSERT INTO dead_letter (kind, execution_id, machine_key, state, attempt, error, cause, at, status, redrive_count)
    SELECT l.kind, d.id, d.machine_key, l.state, l.attempt, l.error, l.cause, $35, 1, d.redrive_count
      FROM unnest($62::text[], $63::uuid[], $64::text[], $65::int[], $66::text[], $67::text[])
           AS l (kind, id, state, attempt, error, cause)
      JOIN done d ON d.id = l.id
)
SELECT id FROM done
