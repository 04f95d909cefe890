-- The chunks that hold the history events $2.
SELECT DISTINCT c.rev, c.data
  FROM execution e
  JOIN history_chunk c ON c.bucket = e.bucket AND c.execution_id = e.id
  JOIN unnest($2::int[]) AS w (event) ON w.event BETWEEN c.first_event AND c.last_event
 WHERE e.id = $1
 ORDER BY c.rev
