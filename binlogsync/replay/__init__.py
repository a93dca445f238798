"""Exact replays: ranges of a table's past, read from the stream or from MySQL's binlogs and written to a target.

Contains no Dagster code.

    bounds.py      parses the bounds of a range                 from_stream.py, from_binlog.py   read a range
    sources.py     resolves bounds to checkpoints               origin.py     chooses which of the two reads it
    ranges.py      which changes are in a range                 run.py        runs a replay and reports progress
    targets.py     the target protocol; implementations: to_parquet.py, to_tables.py, to_stream.py
"""
