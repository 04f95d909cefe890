"""How executions survive: leases, group commit, dispatch, timers, rescue. Knows its ports, never a store or a target."""
