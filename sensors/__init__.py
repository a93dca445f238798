"""Sensor factories: keep the tail of a source alive, start consumers of tables with a backlog, register bookmarks.

They take names and asset keys as parameters, so they do not depend on the jobs and assets of `pipelines`.
"""
