"""Position stores. A new store is one file that implements `PositionStore` and passes tests/stores/contract.py.

A store contains a copy of the sinks' checkpoint, never a later one, and the lease of the one tail that may save. A
lease has an epoch that only grows: each claim increments it, and a save or heartbeat with an older epoch is refused.
The store also contains bookmarks, which need no lease, because a checkpoint in a bookmark never becomes wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from binlogsync.bookmarks import Bookmark
from binlogsync.position import Checkpoint


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to save for one source.

    Attributes:
        source: name of the source.
        owner: its owner, for display: a Dagster run id, or host and process id.
        epoch: number that grows with every claim.
        age_s: seconds since its last save or heartbeat when it was read, by the store's clock.
        released: True when the owner released it cleanly.
    """

    source: str
    owner: str
    epoch: int
    age_s: float = 0.0
    released: bool = False


class PositionStore(Protocol):
    """Checkpoints, leases and bookmarks by source name. A store is a subclass.

    Every method may raise StoreError, and is safe to call from any thread.
    """

    name: str

    def load(self, source: str) -> Checkpoint | None:
        """The saved checkpoint; None when there is none."""

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        """Store the checkpoint durably, and renew the lease. Raises LeaseLostError if another owner claimed it."""

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        """Claim the lease, which gives the right to save.

        Raises LeaseLostError, with the owner and its last heartbeat, while another owner's lease is neither released
        nor older than `stale_s`; with `take_over` it is claimed in any case.
        """

    def heartbeat(self, lease: Lease) -> None:
        """Renew the lease without a save. Raises LeaseLostError like save."""

    def release(self, lease: Lease) -> None:
        """Release the lease; does nothing when it is already lost."""

    def lease(self, source: str) -> Lease | None:
        """The current lease with its age; None when it was never claimed."""

    def bookmarks(self, source: str) -> Sequence[Bookmark]:
        """All bookmarks of the source, in the order of their keys."""

    def put_bookmark(self, source: str, bookmark: Bookmark) -> None:
        """Store the bookmark durably; one with the same key is replaced."""

    def delete_bookmark(self, source: str, key: str) -> bool:
        """Delete the bookmark; False when there was none with that key."""

    def facts(self, source: str) -> str | None:
        """The stored facts about the source's server (server_facts.py); None when there are none."""

    def put_facts(self, source: str, text: str) -> None:
        """Replace the stored facts. They are informative and need no lease."""

    def close(self) -> None:
        """Close connections and files; never raises."""

    def describe(self) -> str:
        """Kind and location, for the user."""
        return self.name

    def missing_file(self) -> Path | None:
        """The file of the store if it does not exist yet; None if it exists, or the store is not a file."""
        return None
