"""Existing rows of a table, read from the server at a known position: in one read view, or in chunks by key."""
