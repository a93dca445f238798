"""Partitions of the replay assets."""

import dagster as dg

from dagster_binlogsync.keys import safe_part


def bookmark_partitions(source: str) -> dg.DynamicPartitionsDefinition:
    """The partitions of the replay assets: K is the range of changes from bookmark K to the next bookmark."""
    return dg.DynamicPartitionsDefinition(name=f"bookmarks_{safe_part(source)}")
