-- Hand a node's lease and shards to its new name. The update of a shard waits for the commits that hold it FOR SHARE.
WITH renamed AS (
    UPDATE node SET incarnation = $2 WHERE incarnation = $1
), express AS (
    UPDATE express_execution SET owner = $2 WHERE owner = $1 AND status = {execution.RUNNING}
)
UPDATE shard SET owner = $2, epoch = epoch + 1 WHERE owner = $1
