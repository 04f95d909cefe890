-- Delete Express executions that have ended, each only where its newest run has done so.
DELETE FROM express_execution e
 USING unnest($1::uuid[], $2::smallint[]) AS n (id, attempt)
 WHERE e.id = n.id AND e.attempt = n.attempt AND e.status = {execution.RUNNING}
RETURNING e.id
