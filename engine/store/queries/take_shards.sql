-- Take shards that no live node owns. Committed before anything of them is loaded.
UPDATE shard s SET owner = $1, epoch = s.epoch + 1
  FROM (SELECT f.id FROM shard f
         WHERE f.owner IS NULL
            OR NOT EXISTS (SELECT FROM node n WHERE n.incarnation = f.owner AND n.expires_at > clock_timestamp())
         ORDER BY f.id LIMIT $2 FOR UPDATE SKIP LOCKED) free
 WHERE s.id = free.id
RETURNING s.id
