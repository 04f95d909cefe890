"""Where executions are kept: Postgres, and a memory store with the same ports and the same contract tests."""
