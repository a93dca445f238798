"""All BINLOGSYNC_* variables. Unknown ones are refused, so that a misspelled variable does not leave a default active.

A name is compared with those of the settings, for each source of BINLOGSYNC_SOURCE with its own MySQL variables too.
Names in other letters (`binlogsync_start`) are refused as well: they would not be read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from binlogsync.errors import ConfigError

_PREFIX = "BINLOGSYNC_"
_TLS = ("TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE")
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "": (
        "SOURCE",
        "POSITIONS",
        "START",
        "INCLUDE",
        "EXCLUDE",
        "CONSUMERS",
        "SENSORS",
        "SHIFT_S",
        "REPORT_S",
        "KERNELS",
    ),
    "NATS_": ("URL", "USER", "PASSWORD", "TOKEN", "CREDENTIALS_FILE", "NKEY_SEED_FILE", *_TLS),
    "STREAM_": ("REPLICAS", "MAX_AGE_DAYS", "MAX_BYTES", "FORMAT", "CHANGES_PER_MESSAGE"),
    "REDIS_": ("HOST", "PORT", "DATABASE", "USER", "PASSWORD", "TLS", *_TLS),
    "POSITIONS_": ("PATH",),
    "WAREHOUSE_": ("PATH",),
    "AUDIT_": ("PATH",),
    "SHOW_": ("VALUES",),
    "KERNELS": ("",),
    "FLUSH_": ("INTERVAL_S", "ROWS"),
    "BOOKMARK_": ("MINUTES", "KEEP", "KEEP_DAYS"),
}
_MYSQL = ("HOST", "PORT", "USER", "PASSWORD", "SOCKET", "TLS", *_TLS, "PUBLIC_KEY_FILE", "SERVER_ID")
SETTINGS = frozenset(
    {f"{_PREFIX}{group}{name}" for group, names in _GROUPS.items() for name in names}
    | {f"{_PREFIX}MYSQL_{name}" for name in _MYSQL}
)
"""Those of `.env.example`."""
PRIVATE_SERVERS = frozenset({"BINLOGSYNC_CACHE", "BINLOGSYNC_EMBEDDED"})
"""Of the private servers of demo and tests; they name no server of the user's."""
_TESTS = ("BINLOGSYNC_TEST_", "BINLOGSYNC_RANDOM_")
"""Variables of the tests begin with these; no deployment has them."""


def check_variables(variables: Iterable[str], sources: Iterable[str], origin: str = "the environment") -> None:
    """Raise ConfigError for unknown names with the prefix BINLOGSYNC_, with the most similar known name."""
    known = SETTINGS | PRIVATE_SERVERS | {name for source in sources for name in _of_source(source)}
    wrong = [
        name
        for name in sorted(variables)
        if name.upper().startswith(_PREFIX) and name not in known and not name.startswith(_TESTS)
    ]
    if wrong:
        unknown = "; ".join(f"{name} is not a setting{_nearest(name, known)}" for name in wrong)
        raise ConfigError(
            f"{origin}: {unknown}. Correct or remove it; .env.example lists all settings, and an "
            "additional source must be named in BINLOGSYNC_SOURCE"
        )


def _of_source(source: str) -> list[str]:
    """The MySQL variables of a source other than the first."""
    key = re.sub(r"[^A-Za-z0-9_]", "_", source.strip()).upper()
    return [f"{_PREFIX}{key}_MYSQL_{name}" for name in _MYSQL]


def _nearest(name: str, known: Iterable[str]) -> str:
    """The most similar name, compared without the common prefix."""
    found = difflib.get_close_matches(name[len(_PREFIX) :].upper(), [one[len(_PREFIX) :] for one in known], n=1)
    return f" (did you mean {_PREFIX}{found[0]}?)" if found else ""
