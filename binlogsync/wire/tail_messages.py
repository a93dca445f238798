"""Which messages of a stream its tail has written: pure, from a message's headers and its sequence alone.

A tail knows from its fence at which sequence a message will be stored, and writes that into the checkpoint. So a copy
of a message (published again by a bridge or an operator, headers included) exposes itself: it is stored elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from binlogsync.errors import PositionError
from binlogsync.position import Checkpoint
from binlogsync.wire.envelope import CHECKPOINT, has_tail_header

BATCH_ID = "Nats-Batch-Id"
MOST_WITHOUT_CHECKPOINT = 1000
"""Messages of a tail that follow each other without one that carries a checkpoint: those of an atomic batch."""
_SEQUENCE = re.compile(r'"sequence":([0-9]{1,20})\}\Z')  # as Checkpoint.to_text ends


def is_tail_message(headers: Mapping[str, str], sequence: int) -> bool:
    """True for a message that the tail has stored at this sequence, as far as it tells.

    A checkpoint of an older version does not tell where it was stored, nor does a message inside an atomic batch.
    """
    if CHECKPOINT not in headers:
        return BATCH_ID in headers and has_tail_header(headers)
    told = _SEQUENCE.search(headers[CHECKPOINT])
    return told is None or int(told[1]) == sequence


def tail_checkpoint(headers: Mapping[str, str], sequence: int) -> Checkpoint | None:
    """The checkpoint of such a message; None where it carries none that can be read, or is a copy."""
    if CHECKPOINT not in headers or not is_tail_message(headers, sequence):
        return None
    try:
        return Checkpoint.from_text(headers[CHECKPOINT])
    except PositionError:
        return None
