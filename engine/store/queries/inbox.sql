-- What other nodes have put down for the owner of these shards; consumed by key, in the commit that applies it.
SELECT id, execution_id, event FROM inbox WHERE shard = ANY ($1::smallint[]) ORDER BY id LIMIT $2
