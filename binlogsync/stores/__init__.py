"""Stores of a deployment: checkpoints, bookmarks and leases, each with a small protocol.

A store of another kind implements one of the protocols and passes its contract tests (tests/stores/contract_*.py). A
`PositionStore` bundles three of them. A checkpoint store of this package needs leases of the same kind, because a
save also renews the lease; the bookmarks may be of another kind. Every method may raise StoreError, and is safe to call
from any thread.
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
    """The right to be the only tail of a source.

    Attributes:
        source: name of the source.
        owner: its owner, for display: a Dagster run id, or host and process id.
        epoch: number that grows with every claim.
        age_s: seconds since its last renewal when it was read, by the store's clock.
        released: True when the owner released it cleanly.
    """

    source: str
    owner: str
    epoch: int
    age_s: float = 0.0
    released: bool = False


class CheckpointStore(Protocol):
    """A copy of the sinks' checkpoint for each source, never a later one; and facts about the source's server."""

    def load(self, source: str) -> Checkpoint | None:
        """The saved checkpoint; None when there is none."""

    def save(self, lease: Lease, checkpoint: Checkpoint) -> None:
        """Store the checkpoint durably.

        Raises LeaseLostError, and stores nothing, if a save with a later epoch was made. A store that also has the
        leases does so as soon as another owner has claimed the lease, and renews it.
        """

    def delete(self, lease: Lease) -> None:
        """Delete the checkpoint and the facts of the source. Raises LeaseLostError, as `save` does."""

    def load_facts(self, source: str) -> str | None:
        """The stored facts about the source's server (server_facts.py); None when there are none."""

    def save_facts(self, source: str, text: str) -> None:
        """Replace the stored facts. They are informative and need no lease."""


class BookmarkStore(Protocol):
    """Bookmarks of each source. They need no lease, because a checkpoint in a bookmark never becomes wrong."""

    def load(self, source: str) -> Sequence[Bookmark]:
        """All bookmarks of the source, in the order of their keys."""

    def put(self, source: str, bookmark: Bookmark) -> None:
        """Store the bookmark durably; one with the same key is replaced."""

    def delete(self, source: str, key: str) -> bool:
        """Delete the bookmark; False when there was none with that key."""


class LeaseStore(Protocol):
    """The lease of each source. Each claim increments its epoch, and an older epoch cannot be renewed."""

    def load(self, source: str) -> Lease | None:
        """The current lease with its age; None when it was never claimed."""

    def claim(self, source: str, owner: str, *, take_over: bool = False, stale_s: float = 45.0) -> Lease:
        """Claim the lease.

        Raises LeaseLostError, with the owner and its last renewal, while another owner's lease is neither released nor
        older than `stale_s`; with `take_over` it is claimed in any case.
        """

    def renew(self, lease: Lease) -> None:
        """Renew the lease. Raises LeaseLostError if another owner has claimed it."""

    def release(self, lease: Lease) -> None:
        """Release the lease; does nothing when it is already lost."""


class PositionStore:
    """The three stores of a deployment, which one setting selects. Subclasses open those of one kind."""

    name = "mixed"

    def __init__(self, checkpoints: CheckpointStore, bookmarks: BookmarkStore, leases: LeaseStore) -> None:
        self.checkpoints = checkpoints
        self.bookmarks = bookmarks
        self.leases = leases

    def close(self) -> None:
        """Close connections and files; never raises."""

    def describe(self) -> str:
        """Kind and location, for the user."""
        return self.name

    def missing_file(self) -> Path | None:
        """The file of the store if it does not exist yet; None if it exists, or the store is not a file."""
        return None
