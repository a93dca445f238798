"""Whether the changes of a batch can be applied to a table: they need full row images."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from binlogsync.change_batch import ChangeBatch
from binlogsync.errors import ConsumeError
from binlogsync.server_version import ServerFlavor, flavor_of

log = logging.getLogger(__name__)
Letters = np.ndarray[Any, np.dtype[np.uint8]]


def decode_ops(batch: ChangeBatch) -> Letters:
    """The op letter of each change, as its ASCII code."""
    column = batch.data.column("op")
    letters = np.array([ord(letter) for letter in column.dictionary.to_pylist()], dtype=np.uint8)
    picked: Letters = letters[column.indices.to_numpy(zero_copy_only=False)]
    return picked


def describe_missing_columns(batch: ChangeBatch) -> str:
    """A description of incomplete row images; "" if every image has all columns."""
    names = [column.name for column in batch.schema.columns]
    for image in ("before", "after"):
        there = batch.data.schema.field(image).type
        if [there.field(i).name for i in range(there.num_fields)] != names:
            how = "SET GLOBAL" if flavor_of(batch.server_uuid) == ServerFlavor.MARIADB else "SET PERSIST"
            return (
                f"a mirror needs full row images, but an image has {there.num_fields} of {len(names)} columns: "
                "a session has another binlog_row_image; "
                f"{how} binlog_row_image = 'FULL' on the server, and do not change it in sessions"
            )
    return ""


def check_batch(batch: ChangeBatch) -> None:
    """Raise ConsumeError for incomplete row images; log a warning for invalid dates."""
    if (problem := describe_missing_columns(batch)) != "":
        raise ConsumeError(f"{batch.schema.name}: {problem}; then give the mirror a connection to its source")
    for (_, column), texts in batch.impossible.items():
        if texts.null_count == len(texts) or column in batch.schema.primary_key:
            continue
        log.warning(
            "%s.%s: %d zero or invalid dates are NULL in the mirror",
            batch.schema.name,
            column,
            len(texts) - texts.null_count,
        )
