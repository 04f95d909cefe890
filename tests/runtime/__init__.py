"""The runtime over a real Postgres: engine nodes in this process, targets that tests command."""
