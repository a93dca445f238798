"""Benchmarks against baselines on the same servers in the same run. `python -m bench` prints the results."""
