-- All chunks of one execution, in order.
SELECT c.rev, c.first_event, c.last_event, c.data
  FROM execution e JOIN history_chunk c ON c.bucket = e.bucket AND c.execution_id = e.id
 WHERE e.id = $1
 ORDER BY c.rev
