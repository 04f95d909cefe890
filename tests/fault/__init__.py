"""Faults with real processes: kills at failpoints, pauses, restarts of servers, cut connections. Each with its negative control."""
