"""Exact backfills: ranges of a table's past, out of the stream or MySQL's binlogs, into a target. Knows nothing of
Dagster.

    ends.py       an end of a range as a person writes it       from_stream.py, from_binlog.py   reading a range
    places.py     ends to places                                choosing.py   which of the two reads it
    ranges.py     which changes lie in a range                  run.py        doing it, with progress
    targets.py    what changes are handed to: to_parquet.py, to_duckdb.py, to_stream.py
"""
