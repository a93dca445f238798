"""Metadata that runs of tails, consumers and replays have in common."""

import traceback

import dagster as dg

from binlogsync.errors import BinlogSyncError
from binlogsync.escaping import fenced

OPS = {"c": "created", "u": "updated", "d": "deleted", "r": "read_by_snapshot", "t": "truncated"}
"""Metadata keys of the numbers of changes, by operation."""


def traceback_metadata(error: BinlogSyncError) -> dict[str, dg.MetadataValue]:
    """The traceback of the cause of the error, if there is one, with control characters and Markdown escaped.

    Raise a Failure with it `from None`: otherwise Dagster also shows the unescaped exception of the handler, whose
    message may contain row values.
    """
    if error.__cause__ is None:
        return {}
    lines = "".join(traceback.format_exception(error.__cause__))
    return {"traceback": dg.MetadataValue.md(fenced(lines.rstrip("\n")))}
