-- Write how Express executions ended, each only where its newest run has done so.
UPDATE express_execution e
   SET status = n.status, stopped_at = n.stopped_at, output = n.output, error = n.error, cause = n.cause
  FROM unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::bigint[], $5::bytea[], $6::text[], $7::text[])
    AS n (id, attempt, status, stopped_at, output, error, cause)
 WHERE e.id = n.id AND e.attempt = n.attempt AND e.status = {execution.RUNNING}
RETURNING e.id
