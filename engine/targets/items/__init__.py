"""Items of Map Runs, out of objects: one module for each format, and `source`, which picks the one an ItemReader names."""
