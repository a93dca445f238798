"""The tail of a source: read the binlog, flush to the sinks, save checkpoints, hold the lease (run.py is the loop)."""
