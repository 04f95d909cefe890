"""The `stepwell` command, and the one place that puts concrete stores, targets and clocks together."""
