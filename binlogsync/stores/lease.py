"""The rules of a lease, the same for every store: who may claim, who may save, and what a refusal says.

A store keeps one `Claim` a source and asks here inside its own transaction. Times are seconds of the store's clock.
Where that clock goes back, a claim heard of in the future counts as heard of now: it looks neither dead nor alive for
ever.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from binlogsync.errors import LeaseLostError
from binlogsync.stores import Lease


@dataclass(frozen=True, slots=True)
class Claim:
    """What a store keeps of a lease; `heard_s` is the time of its last save or heartbeat by the store's clock."""

    owner: str
    epoch: int
    heard_s: float
    released: bool = False

    def at(self, now_s: float) -> Claim:
        """This claim, seen at that time: never heard of in the future."""
        return self if self.heard_s <= now_s else replace(self, heard_s=now_s)

    def lease(self, source: str, now_s: float) -> Lease:
        """As the protocol shows it."""
        return Lease(source, self.owner, self.epoch, max(0.0, now_s - self.heard_s), self.released)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a source is claimed; see PositionStore.claim."""

    owner: str
    take_over: bool
    stale_s: float


def next_claim(source: str, held: Claim | None, terms: Terms, now_s: float) -> Claim:
    """The claim that takes the place of `held`; raises LeaseLostError while another owner's is alive."""
    if held is None:
        return Claim(terms.owner, 1, now_s)
    age_s = held.at(now_s).lease(source, now_s).age_s
    if held.owner != terms.owner and not held.released and not terms.take_over and age_s <= terms.stale_s:
        raise refused(source, held.owner, age_s, terms)
    return Claim(terms.owner, held.epoch + 1, now_s)


def check_held(lease: Lease, held: Claim | None) -> Claim:
    """What the store holds for this lease; raises LeaseLostError when it is not this lease any more."""
    if held is None or held.epoch != lease.epoch or held.owner != lease.owner:
        raise lost(lease, held.owner if held else None, held.epoch if held else 0)
    return held


def refused(source: str, owner: str, age_s: float, terms: Terms) -> LeaseLostError:
    """The error of a claim while another owner is alive."""
    return LeaseLostError(
        f"source {source!r} is held by {owner!r}, heard of {age_s:.1f} s ago; {terms.owner!r} may claim it when that "
        f"is more than {terms.stale_s:g} s, or at once by taking over when the other is known to be dead"
    )


def lost(lease: Lease, owner: str | None, epoch: int) -> LeaseLostError:
    """The error of a save or heartbeat under a lease that the store does not hold; `owner` None: it holds none."""
    mine = f"{lease.owner!r} lost the lease of source {lease.source!r} (epoch {lease.epoch})"
    if owner is None or epoch < lease.epoch:
        there = "no lease" if owner is None else f"epoch {epoch} of {owner!r}"
        return LeaseLostError(
            f"{mine}: the store holds {there}, so it was emptied or restored since; start the tail again"
        )
    return LeaseLostError(f"{mine}: {owner!r} has claimed it since (epoch {epoch}); this tail has to stop")
