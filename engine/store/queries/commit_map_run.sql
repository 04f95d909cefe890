-- Write one step of a Map Run, behind both fences: its shard's row locked FOR SHARE must belong to this node, and the Map Run must
-- stand at the revision the step was computed from.
WITH fence AS MATERIALIZED (
    SELECT id FROM shard WHERE id = $3 AND owner = $1 FOR SHARE
)
, stepped AS MATERIALIZED (
    UPDATE map_run m
       SET rev = m.rev + 1, status = $5, progress = $6, stopped_at = $7, redriven_at = coalesce($8, m.redriven_at)
      FROM fence f
     WHERE f.id = m.shard AND m.id = $2 AND m.rev = $4
    RETURNING m.id, m.execution_id
)
, items_new AS (
    INSERT INTO map_item (map_run, item, status, size, input, started_at, losses)
    SELECT s.id, n.item, n.status, n.size, n.input, n.started_at, $34
      FROM unnest($10::int[], $11::smallint[], $12::int[], $13::bytea[], $14::bigint[])
           AS n (item, status, size, input, started_at), stepped s
)
, items_started AS (
    UPDATE map_item i
       SET status = {item.RUNNING}, started_at = CASE WHEN i.started_at = 0 THEN $9 ELSE i.started_at END, losses = $34
      FROM unnest($15::int[]) AS n (item), stepped s
     WHERE i.map_run = s.id AND i.item = n.item AND i.status = {item.PENDING}
)
, items_ended AS (
    UPDATE map_item i
       SET status = n.status, output = n.output, error = n.error, cause = n.cause, stopped_at = n.stopped_at
      FROM unnest($16::int[], $17::smallint[], $18::bytea[], $19::text[], $20::text[], $21::bigint[])
           AS n (item, status, output, error, cause, stopped_at), stepped s
     WHERE i.map_run = s.id AND i.item = n.item AND i.status = {item.RUNNING}
)
, again AS (
    UPDATE map_item i SET status = {item.PENDING}, redrives = i.redrives + 1, error = NULL, cause = NULL
      FROM stepped s
     WHERE $22::bool AND i.map_run = s.id AND i.status > {item.SUCCEEDED}
)
, children AS (
    INSERT INTO execution (id, shard, rev, status, last_event, machine_key, revision, name, arn, bucket, started_at,
                           snapshot_rev, redrive_count, map_run, map_item)
    SELECT n.id, n.shard, 0, {execution.RUNNING}, 0, e.machine_key, e.revision, n.name, n.arn, $28, $9, 0, 0, s.id, n.item
      FROM unnest($23::uuid[], $24::smallint[], $25::text[], $26::text[], $27::int[]) AS n (id, shard, name, arn, item)
      CROSS JOIN stepped s JOIN execution e ON e.id = s.execution_id
     ORDER BY n.id
    ON CONFLICT (id) DO NOTHING
    RETURNING id, shard
)
, starts AS (
    INSERT INTO inbox (shard, execution_id, event, created_at)
    SELECT c.shard, c.id, n.event, $9
      FROM unnest($23::uuid[], $29::bytea[]) AS n (id, event) JOIN children c ON c.id = n.id
    RETURNING execution_id, id
)
, posts AS (
    INSERT INTO inbox (shard, execution_id, event, created_at)
    SELECT n.shard, n.id, n.event, $9
      FROM unnest($30::uuid[], $31::smallint[], $32::bytea[]) AS n (id, shard, event), stepped s
     WHERE NOT EXISTS (SELECT FROM children c WHERE c.id = n.id) -- one that has only just begun is told nothing else
)
, gone AS (
    DELETE FROM inbox i USING unnest($33::bigint[]) AS n (id), stepped s WHERE i.shard = $3 AND i.id = n.id
)
SELECT s.id, st.execution_id, st.id FROM stepped s LEFT JOIN starts st ON true
