"""Sensor factories: keep the tail of a source alive, start consumers of tables with a backlog, register bookmarks."""
