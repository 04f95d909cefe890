-- Renew a node's lease; nothing comes back if the node is no longer known.
UPDATE node SET expires_at = clock_timestamp() + $2 * interval '1 millisecond' WHERE incarnation = $1 RETURNING 1
