-- Take Express executions that no live node runs, and those whose run must have been forgotten, since none lasts so long.
WITH orphan AS (
    SELECT f.id FROM express_execution f
     WHERE f.status = 1
       AND (f.owner IS NULL OR f.claimed_at < $3
            OR NOT EXISTS (SELECT FROM node n WHERE n.incarnation = f.owner AND n.expires_at > clock_timestamp()))
     LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE express_execution e SET owner = $1, attempt = e.attempt + 1, claimed_at = $4
  FROM orphan o, state_machine m, state_machine_revision r
 WHERE e.id = o.id AND m.key = e.machine_key AND r.machine_key = e.machine_key AND r.revision = e.revision
RETURNING e.id, e.attempt, e.machine_key, e.revision, e.name, e.arn, e.started_at, e.trace_header, e.version_arn,
          e.alias_arn, e.input, m.arn AS machine_arn, m.name AS machine_name, r.role_arn
