"""Benchmarks: one run, one server, side by side, ratios. `python -m bench` prints the table."""
