"""Measures Stepwell, the Postgres floor under it and its peers, side by side in one run. It is never shipped."""
