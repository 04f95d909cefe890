-- Write a new execution that has not taken its first step, and its Started event for the owner.
WITH begun AS (
    INSERT INTO execution (id, shard, rev, status, last_event, machine_key, revision, name, arn, bucket, started_at,
                           trace_header, version_arn, alias_arn, snapshot_rev, redrive_count)
    VALUES ($1, $2, 0, 1, 0, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, shard
)
INSERT INTO inbox (shard, execution_id, event, created_at)
SELECT shard, id, $12, $8 FROM begun RETURNING shard
