"""Snapshots that the tail requests itself: of a stream that begins, or after a gap, depending on the setting."""

from __future__ import annotations

import logging
from typing import Literal

from binlogsync.snapshot.requests import SnapshotRequests, new_request

log = logging.getLogger(__name__)

SnapshotPolicy = Literal["never", "when_needed", "initial"]
"""never: only on request. when_needed: also after an accepted gap. initial: also when the stream begins."""
WHOLE_ROWS = 1_000_000
"""Largest number of rows of a table without a key that is published as a whole, by default."""
_ALL = ("*.*",)


def request_if_needed(
    requests: SnapshotRequests,
    policy: SnapshotPolicy,
    source: str,
    include: tuple[str, ...],
    *,
    is_new_stream: bool,
    has_gap: bool,
) -> None:
    """Request a snapshot of all captured tables if the policy asks for one.

    Called before the first message is stored in a new stream: a tail that ends in between requests it again, unless the
    request is still waiting. Raises StoreError.
    """
    reason = ""
    if is_new_stream and policy == "initial":
        reason = "the stream begins"
    elif has_gap and policy != "never":
        reason = "changes are missing in the stream, because a gap was accepted"
    if not reason:
        return
    wanted = new_request(include or _ALL)
    waiting = (each.request for each in requests.list() if not each.status.has_ended and not each.status.began_us)
    if any(each.patterns == wanted.patterns and each.where is None for each in waiting):
        return
    requests.create(wanted)
    log.warning("%s: snapshot %s of all captured tables requested: %s", source, wanted.id, reason)
