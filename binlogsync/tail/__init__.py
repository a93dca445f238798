"""The tail of a source: read, flush, keep the checkpoint, stay alone (run.py is the loop)."""
