"""The peers: other ways to run the same steps. Each is driven from a process of its own."""
