-- Write Express executions that begin. One that is there already is left alone: its start came by another way.
INSERT INTO express_execution (id, owner, attempt, status, machine_key, revision, name, arn, started_at, claimed_at,
                               trace_header, version_arn, alias_arn, input)
SELECT n.id, $1, n.attempt, 1, n.machine_key, n.revision, n.name, n.arn, n.started_at, $2,
       n.trace_header, n.version_arn, n.alias_arn, n.input
  FROM unnest($3::uuid[], $4::smallint[], $5::int[], $6::int[], $7::text[], $8::text[], $9::bigint[], $10::text[],
              $11::text[], $12::text[], $13::bytea[])
    AS n (id, attempt, machine_key, revision, name, arn, started_at, trace_header, version_arn, alias_arn, input)
    ON CONFLICT (id) DO NOTHING
RETURNING id
