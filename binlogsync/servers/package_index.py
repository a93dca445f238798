"""The signed index of Debian's archive: when it was signed, and whether it may be used. Pure.

apt verifies the signature, not the time: an old index with its signature, and the packages that it lists, can be
replayed. apt's own limit (Valid-Until, a week for sid) would refuse every mirror that is no longer updated. So the
limit is the date since which this release was tested; an index past its Valid-Until is used, and its age is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from binlogsync.errors import EmbeddedServerError

OLDEST: Mapping[str, datetime] = {
    "sid": datetime(2026, 10, 1, tzinfo=UTC),
    "bookworm": datetime(2026, 7, 1, tzinfo=UTC),
}


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """The signed index of one suite.

    Attributes:
        suite: the name in the source list.
        signed: the time of the signature.
        valid_until: when the archive lets it expire; None for never.
    """

    suite: str
    signed: datetime
    valid_until: datetime | None

    def age(self, now: datetime) -> str:
        """The date of the signature, and its age."""
        return f"index of {self.suite} signed {self.signed:%Y-%m-%d}, {(now - self.signed).days} days ago"

    def has_expired(self, now: datetime) -> bool:
        """True past its Valid-Until."""
        return self.valid_until is not None and now > self.valid_until

    def check(self, now: datetime) -> None:
        """Raises EmbeddedServerError if it is older than the oldest index that this release was tested with."""
        oldest = OLDEST.get(self.suite)
        if oldest is not None and self.signed < oldest:
            raise EmbeddedServerError(
                f"{self.age(now)}, and this release requires one of {oldest:%Y-%m-%d} or later: the archive in this "
                "machine's apt sources is no longer updated, or old packages are replayed"
            )


def parse_index(suite: str, text: str) -> PackageIndex:
    """Parse an InRelease or Release file. Raises EmbeddedServerError when it has no date."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))
    try:
        until = fields.get("Valid-Until")
        return PackageIndex(suite, _parse_time(fields["Date"]), None if until is None else _parse_time(until))
    except (LookupError, ValueError) as error:
        raise EmbeddedServerError(f"the index of {suite} has no valid date ({error})") from error


def _parse_time(text: str) -> datetime:
    """Debian writes UTC without an offset."""
    found = parsedate_to_datetime(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
