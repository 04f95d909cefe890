-- Write the steps of many executions in one statement, behind both fences: the shard rows locked FOR SHARE must belong to this
-- node (epoch fence), and an execution must stand at the revision its step was computed from (revision fence).
--
-- `:closing` and its like stand for the columns of a group of rows, and what is between `-- if` and `-- end` is there only
-- in variants that have those groups: see commit_statements.py.
WITH fence AS MATERIALIZED (
    SELECT id FROM shard WHERE id = ANY (:shards) AND owner = :node ORDER BY id FOR SHARE
)
-- if closing
, closing AS MATERIALIZED (
    -- Tasks this batch closes or marks as started, locked so that an outcome or claim that another node has just made
    -- durable is seen here and not overwritten: the first durable outcome wins, and what has one is started no more.
    SELECT t.execution_id, (t.outcome IS NOT NULL AND NOT c.known) OR (c.worker IS NOT NULL AND t.worker <> c.worker) AS void
      FROM unnest(:closing) AS c (execution_id, task, known, worker)
      JOIN task t ON t.execution_id = c.execution_id AND t.task = c.task
     ORDER BY t.execution_id, t.task
       FOR UPDATE OF t
)
, void AS MATERIALIZED (
    SELECT DISTINCT execution_id FROM closing WHERE void
)
-- end
-- if stepped
, stepped AS (
    UPDATE execution e
       SET rev = e.rev + 1, status = u.status, last_event = u.last_event,
           stopped_at = CASE WHEN u.status > {execution.RUNNING} THEN coalesce(u.stopped_at, e.stopped_at) END,
           snapshot_rev = CASE WHEN u.full_snapshot THEN e.rev + 1 ELSE e.snapshot_rev END,
           redrive_count = u.redrive_count, redriven_at = u.redriven_at,
           redrive_token = coalesce(u.redrive_token, e.redrive_token)
      FROM unnest(:stepped)
           AS u (id, shard, rev, status, stopped_at, last_event, full_snapshot, redrive_count, redriven_at, redrive_token)
      JOIN fence f ON f.id = u.shard
     WHERE e.id = u.id AND e.rev = u.rev
-- if closing
       AND NOT EXISTS (SELECT FROM void v WHERE v.execution_id = u.id)
-- end
    RETURNING e.id, e.rev, e.bucket, e.shard, e.machine_key, e.redrive_count
)
-- end
-- if begun
, begun AS (
    INSERT INTO execution (id, shard, rev, status, stopped_at, last_event, machine_key, revision, name, arn, bucket,
                           started_at, trace_header, version_arn, alias_arn, snapshot_rev, redrive_count)
    SELECT n.id, n.shard, 1, n.status, n.stopped_at, n.last_event, n.machine_key, n.revision, n.name, n.arn, n.bucket,
           n.started_at, n.trace_header, n.version_arn, n.alias_arn, 0, 0
      FROM unnest(:begun)
           AS n (id, shard, status, stopped_at, last_event, machine_key, revision, name, arn, bucket, started_at,
                 trace_header, version_arn, alias_arn)
      JOIN fence f ON f.id = n.shard
     ORDER BY n.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, rev, bucket, shard, machine_key, redrive_count
)
-- end
, done AS MATERIALIZED (
-- if stepped
    SELECT * FROM stepped
-- end
-- if stepped begun
    UNION ALL
-- end
-- if begun
    SELECT * FROM begun
-- end
)
, chunked AS (
    INSERT INTO history_chunk (bucket, execution_id, rev, first_event, last_event, data)
    SELECT d.bucket, d.id, d.rev, c.first_event, c.last_event, c.data
      FROM unnest(:chunks) AS c (id, first_event, last_event, data)
      JOIN done d ON d.id = c.id
)
-- if tasks_new
, tasks_new AS (
    INSERT INTO task (execution_id, task, shard, kind, status, resource, scheduled_event, attempt, secret, state, entry,
                      heartbeat_seconds, timeout_seconds, created_at)
    SELECT d.id, n.task, d.shard, n.kind, 1, n.resource, n.scheduled_event, n.attempt, n.secret, n.state, n.entry,
           n.heartbeat_seconds, n.timeout_seconds, :now
      FROM unnest(:tasks_new)
           AS n (id, task, kind, resource, scheduled_event, attempt, secret, state, entry, heartbeat_seconds,
                 timeout_seconds)
      JOIN done d ON d.id = n.id
)
-- end
-- if tasks_closed
, tasks_closed AS (
    DELETE FROM task t USING unnest(:tasks_closed) AS c (id, task), done d
     WHERE d.id = c.id AND t.execution_id = c.id AND t.task = c.task
)
-- end
-- if tasks_started
, tasks_started AS (
    UPDATE task t SET status = {task.STARTED}, worker = s.worker, started_at = :now
      FROM unnest(:tasks_started) AS s (id, task, worker), done d
     WHERE d.id = s.id AND t.execution_id = s.id AND t.task = s.task
)
-- end
-- if timers_new
, timers_new AS (
    INSERT INTO timer (execution_id, timer, shard, due_at, kind, task)
    SELECT d.id, n.timer, d.shard, n.due_at, n.kind, n.task
      FROM unnest(:timers_new) AS n (id, timer, due_at, kind, task)
      JOIN done d ON d.id = n.id
)
-- end
-- if timers_gone
, timers_gone AS (
    DELETE FROM timer t USING unnest(:timers_gone) AS g (id, timer), done d
     WHERE d.id = g.id AND t.execution_id = g.id AND t.timer = g.timer
)
-- end
-- if inbox_gone
, inbox_gone AS (
    DELETE FROM inbox i USING unnest(:inbox_gone) AS g (id, shard, row), done d
     WHERE d.id = g.id AND i.shard = g.shard AND i.id = g.row
)
-- end
-- if letters
, letters AS (
    INSERT INTO dead_letter (kind, execution_id, machine_key, state, attempt, error, cause, at, status, redrive_count)
    SELECT l.kind, d.id, d.machine_key, l.state, l.attempt, l.error, l.cause, :now, 1, d.redrive_count
      FROM unnest(:letters)
           AS l (kind, id, state, attempt, error, cause)
      JOIN done d ON d.id = l.id
)
-- end
-- if redriven
, redriven AS (
    UPDATE dead_letter l SET status = {dead_letter.REDRIVEN}, closed_at = :now
      FROM unnest(:redriven) AS r (id), done d
     WHERE d.id = r.id AND l.execution_id = r.id AND l.status = {dead_letter.OPEN}
)
-- end
-- if map_runs_new
, map_runs_new AS (
    INSERT INTO map_run (id, shard, status, execution_id, number, arn, state, started_at, max_concurrency, tolerated_count,
                         tolerated_percentage, spec, express, progress)
    SELECT n.id, n.shard, 1, d.id, n.number, n.arn, n.state, :now, n.max_concurrency, n.tolerated_count,
           n.tolerated_percentage, n.spec, n.express, '{}'
      FROM unnest(:map_runs_new)
           AS n (execution_id, id, shard, number, arn, state, max_concurrency, tolerated_count, tolerated_percentage, spec,
                 express)
      JOIN done d ON d.id = n.execution_id
)
-- end
-- if posts
, posts AS (
    INSERT INTO inbox (shard, execution_id, event, created_at)
    SELECT p.shard, p.id, p.event, :now
      FROM unnest(:posts) AS p (sender, id, shard, event)
      JOIN done d ON d.id = p.sender
)
-- end
SELECT id FROM done
