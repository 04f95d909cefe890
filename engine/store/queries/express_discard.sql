-- Delete Express executions that began under one of these names and were answered to nobody.
DELETE FROM express_execution WHERE id = ANY ($2::uuid[]) AND owner = ANY ($1::uuid[]) AND attempt <= 1 AND status = {execution.RUNNING}
