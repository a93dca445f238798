"""The signed index of Debian's archive: when it was signed, and whether it may be used. Pure.

apt verifies the signature, not the time: an old index with its signature, and the packages that it names, can be played
back. apt's own limit (Valid-Until, a week for sid) would refuse every mirror that stands still. So the limit is the day
from which on this release was tested; an index past its Valid-Until is used, and its age is reported.
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
class Index:
    """One index.

    Attributes:
        suite: as our source list names it.
        signed: when.
        valid_until: until when its archive vouches for it; None when it does not end.
    """

    suite: str
    signed: datetime
    valid_until: datetime | None

    def age(self, now: datetime) -> str:
        """Of what day it is, and how long ago that was."""
        return f"index of {self.suite} signed {self.signed:%Y-%m-%d}, {(now - self.signed).days} days ago"

    def has_expired(self, now: datetime) -> bool:
        """True past its Valid-Until."""
        return self.valid_until is not None and now > self.valid_until

    def check(self, now: datetime) -> None:
        """Raises EmbeddedServerError for one that is older than what this release was tested with."""
        oldest = OLDEST.get(self.suite)
        if oldest is not None and self.signed < oldest:
            raise EmbeddedServerError(
                f"{self.age(now)}, and this release needs one of {oldest:%Y-%m-%d} or later: the archive in this "
                "machine's apt sources stands still, or old packages are played back"
            )


def parse_index(suite: str, text: str) -> Index:
    """From an InRelease or Release file. Raises EmbeddedServerError when it has no date."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))
    try:
        until = fields.get("Valid-Until")
        return Index(suite, _time(fields["Date"]), None if until is None else _time(until))
    except (LookupError, ValueError) as error:
        raise EmbeddedServerError(f"the index of {suite} has no date that can be read ({error})") from error


def _time(text: str) -> datetime:
    """Debian writes UTC without an offset."""
    found = parsedate_to_datetime(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
