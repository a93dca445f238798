"""Failures of runs: the error, what to do about it, and the traceback of its cause."""

import traceback
from collections.abc import Mapping, Sequence

import dagster as dg

from binlogsync.errors import BinlogSyncError
from binlogsync.escaping import fenced

Advice = Sequence[tuple[type[BinlogSyncError], str]]
"""What to do about errors of a class, the most specific class first."""


def error_metadata(error: BinlogSyncError, advice: Advice) -> dict[str, dg.MetadataValue]:
    """Class of the error, what to do, and the traceback of its cause."""
    found = next((text for kind, text in advice if isinstance(error, kind)), "See the message.")
    return {
        "error": dg.MetadataValue.text(type(error).__name__),
        "what_to_do": dg.MetadataValue.text(found),
        **_traceback_metadata(error),
    }


def build_failure(error: BinlogSyncError, metadata: Mapping[str, dg.MetadataValue]) -> dg.Failure:
    """The Failure that the run page shows. Raise it `from None`.

    Otherwise Dagster also shows the unescaped exception of a handler, whose message may contain row values.
    """
    return dg.Failure(f"{type(error).__name__}: {error}", metadata=metadata, allow_retries=False)


def _traceback_metadata(error: BinlogSyncError) -> dict[str, dg.MetadataValue]:
    """The traceback of the cause of the error, if there is one, with control characters and Markdown escaped."""
    if error.__cause__ is None:
        return {}
    lines = "".join(traceback.format_exception(error.__cause__))
    return {"traceback": dg.MetadataValue.md(fenced(lines.rstrip("\n")))}
