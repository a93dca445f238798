"""Durables for one read of a stream: they disturb no consumer, and are deleted after it."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

from binlogsync.codec.subjects import durable_name
from binlogsync.errors import BinlogSyncError

if TYPE_CHECKING:
    from binlogsync.nats.reader import StreamReader

log = logging.getLogger(__name__)
_INACTIVE_S = 6 * 3600.0
Purpose = Literal["backfill", "load", "look", "past", "skip"]
_TEMPORARY = re.compile(rf"(?:{'|'.join(get_args(Purpose))})-[0-9a-f]{{8}}\Z")


@contextmanager
def temporary_durable(reader: StreamReader, purpose: Purpose, table: tuple[str, str], first: int) -> Iterator[str]:
    """A durable of (database, table) that starts at sequence `first`.

    It is deleted after the block, or by NATS when it is inactive for 6 h.
    """
    name = durable_name(f"{purpose}-{secrets.token_hex(4)}", *table)
    try:
        reader.ensure_durable(name, *table, first, _INACTIVE_S)
        yield name
    finally:
        try:
            reader.delete_durable(name)
        except BinlogSyncError as error:
            log.info("cannot delete durable %s, which NATS removes when it is inactive for 6 h: %s", name, error)


def is_temporary(client_id: str) -> bool:
    """True for the client id in the name of a temporary durable."""
    return _TEMPORARY.match(client_id) is not None
