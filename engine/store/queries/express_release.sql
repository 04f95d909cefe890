-- Leave Express executions that began under one of these names, and do not run there, to whoever takes them.
UPDATE express_execution SET owner = NULL
 WHERE id = ANY ($2::uuid[]) AND owner = ANY ($1::uuid[]) AND attempt <= 1 AND status = {execution.RUNNING}
