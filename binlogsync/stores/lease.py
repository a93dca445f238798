"""Lease rules shared by all stores: who may claim, who may save, and the errors when they may not.

A store keeps one `LeaseRecord` for each source and applies these rules inside its own transaction. Times are seconds of
the store's clock. If that clock is set back, a renewal time in the future is replaced by the current time, so that the
lease can still expire.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from binlogsync.errors import LeaseLostError
from binlogsync.stores import Lease


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A stored lease; `heard_s` is the time of its last renewal by the store's clock."""

    owner: str
    epoch: int
    heard_s: float
    released: bool = False

    def at(self, now_s: float) -> LeaseRecord:
        """This record with `heard_s` limited to the current time."""
        return self if self.heard_s <= now_s else replace(self, heard_s=now_s)

    def lease(self, source: str, now_s: float) -> Lease:
        """The lease as a LeaseStore returns it."""
        return Lease(source, self.owner, self.epoch, max(0.0, now_s - self.heard_s), self.released)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """Arguments of a claim; see LeaseStore.claim."""

    owner: str
    take_over: bool
    stale_s: float


def claim_lease(source: str, held: LeaseRecord | None, terms: ClaimRequest, now_s: float) -> LeaseRecord:
    """The record that replaces `held`; raises LeaseLostError while another owner's lease is valid."""
    if held is None:
        return LeaseRecord(terms.owner, 1, now_s)
    age_s = held.at(now_s).lease(source, now_s).age_s
    if held.owner != terms.owner and not held.released and not terms.take_over and age_s <= terms.stale_s:
        raise claim_refused_error(source, held.owner, age_s, terms)
    return LeaseRecord(terms.owner, held.epoch + 1, now_s)


def check_held(lease: Lease, held: LeaseRecord | None) -> LeaseRecord:
    """Return the stored record of this lease; raises LeaseLostError when another one is stored."""
    if held is None or held.epoch != lease.epoch or held.owner != lease.owner:
        raise lease_lost_error(lease, held.owner if held else None, held.epoch if held else 0)
    return held


def claim_refused_error(source: str, owner: str, age_s: float, terms: ClaimRequest) -> LeaseLostError:
    """The error of a claim while another owner's lease is valid."""
    return LeaseLostError(
        f"source {source!r} is held by {owner!r}, last heartbeat {age_s:.1f} s ago; {terms.owner!r} may claim it when "
        f"that is more than {terms.stale_s:g} s, or at once by taking over if that owner is known to be dead"
    )


def lease_lost_error(lease: Lease, owner: str | None, epoch: int) -> LeaseLostError:
    """The error of a save or renewal with a lost lease; `owner` is None when the store contains no lease."""
    mine = f"{lease.owner!r} lost the lease of source {lease.source!r} (epoch {lease.epoch})"
    if owner is None or epoch < lease.epoch:
        stored = "no lease" if owner is None else f"epoch {epoch} of {owner!r}"
        return LeaseLostError(
            f"{mine}: the store holds {stored}, so it was emptied or restored since; start the tail again"
        )
    return LeaseLostError(f"{mine}: {owner!r} has claimed it since (epoch {epoch}); this tail must stop")
