-- Take Express executions that no live node runs, and those whose run must have been forgotten, since none lasts so long.
-- The oldest come first; one whose definition is not there could never be run, and must not keep the others from their turn.
WITH orphan AS (
    SELECT f.id, m.arn, m.name, r.role_arn FROM express_execution f
      JOIN state_machine m ON m.key = f.machine_key
      JOIN state_machine_revision r ON r.machine_key = f.machine_key AND r.revision = f.revision
     WHERE f.status = {execution.RUNNING}
       AND (f.owner IS NULL OR f.claimed_at < $3
            OR NOT EXISTS (SELECT FROM node n WHERE n.incarnation = f.owner AND n.expires_at > clock_timestamp()))
     ORDER BY f.claimed_at, f.id LIMIT $2 FOR UPDATE OF f SKIP LOCKED
)
UPDATE express_execution e SET owner = $1, attempt = e.attempt + 1, claimed_at = $4
  FROM orphan o
 WHERE e.id = o.id
RETURNING e.id, e.attempt, e.machine_key, e.revision, e.name, e.arn, e.started_at, e.trace_header, e.version_arn,
          e.alias_arn, e.input, o.arn AS machine_arn, o.name AS machine_name, o.role_arn
