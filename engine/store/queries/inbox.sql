-- What other nodes have put down for the owner of these shards, without some rows and receivers; consumed by key, in the commit
-- that applies it.
SELECT id, execution_id, event FROM inbox
 WHERE shard = ANY ($1::smallint[]) AND id <> ALL ($3::bigint[]) AND execution_id <> ALL ($4::uuid[])
 ORDER BY id LIMIT $2
