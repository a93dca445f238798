"""Where checkpoints are kept. A new store is one file that fulfils `PositionStore` and passes tests/stores/contract.py.

A store mirrors what the sinks have, never ahead of them, and holds the lease of the one tail that may save. A lease has
an epoch that only grows: claiming raises it, and a save or heartbeat under an older epoch is refused. Beside them it
keeps bookmarks, which need no lease: each is a place that was right for good, whoever wrote it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from binlogsync.bookmarks import Bookmark
from binlogsync.position import Checkpoint


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to save for one source.

    Attributes:
        source: name of the source.
        owner: who holds it, for people: a Dagster run id, or host and process id.
        epoch: grows with every claim.
        age_s: seconds since its last save or heartbeat, by the store's clock, when it was read.
        released: True when the owner let go of it in good order.
    """

    source: str
    owner: str
    epoch: int
    age_s: float = 0.0
    released: bool = False


class PositionStore(Protocol):
    """Checkpoints, leases and bookmarks by source name.

    Every method may raise StoreError, and is safe to call from any thread.
    """

    name: str

    def load(self, source: str) -> Checkpoint | None:
        """The saved checkpoint; None when there is none."""

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        """Keep it, durably, and renew the lease. Raises LeaseLostError when another has claimed the source since."""

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        """Become the one that may save.

        Refused with LeaseLostError, naming the owner and how long ago it was heard of, while another owner's lease is
        neither released nor older than `stale_s`; with `take_over` it is claimed all the same.
        """

    def heartbeat(self, lease: Lease) -> None:
        """Renew the lease without a save. Raises LeaseLostError like save."""

    def release(self, lease: Lease) -> None:
        """Let go in good order; does nothing when the lease is lost already."""

    def lease(self, source: str) -> Lease | None:
        """Who holds it, and since when it was not heard of; None when it was never claimed."""

    def bookmarks(self, source: str) -> Sequence[Bookmark]:
        """All that are kept, in the order of their keys."""

    def put_bookmark(self, source: str, bookmark: Bookmark) -> None:
        """Keep it, durably; one with the same key is replaced."""

    def delete_bookmark(self, source: str, key: str) -> bool:
        """Keep it no longer; False when there was none with that key."""

    def facts(self, source: str) -> str | None:
        """What was noted of the source's server (server_facts.py); None when nothing was."""

    def put_facts(self, source: str, text: str) -> None:
        """Note it in place of what was noted before. It is a note for people, and needs no lease."""

    def close(self) -> None:
        """Let go of connections and files; never raises."""
