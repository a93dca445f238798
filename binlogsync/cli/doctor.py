"""`binlogsync doctor`: checks everything that a tail requires; one line per check: ok, warning or error, and the fix.

It creates and changes nothing: no stream, no file, no lease. A check that fails does not prevent the others.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from binlogsync.bookmarks import Bookmark
from binlogsync.cli.output import write_line
from binlogsync.consume.progress_nats import load_all_progress
from binlogsync.errors import BinlogSyncError, SinkError
from binlogsync.mysql import Finding, MySQLConfig, inspect_server, preflight, validate
from binlogsync.mysql.retention import BinlogRetention, clock_ahead_s
from binlogsync.nats.account import find_account_problems
from binlogsync.nats.client import NatsConnection
from binlogsync.nats.foreign_messages import describe_foreign
from binlogsync.nats.stream_status import StreamStatus, read_stream_status
from binlogsync.position import Checkpoint
from binlogsync.retention_report import (
    CLOCK_S,
    RequiredPosition,
    check_retention,
    describe_retention,
    required_by_bookmarks,
    required_by_consumers,
    required_by_nats_consumers,
    required_by_tail,
)
from binlogsync.server_facts import ServerFacts
from binlogsync.server_version import ServerFlavor
from binlogsync.settings import Settings
from binlogsync.stores import Lease
from binlogsync.tail.start import first_start
from binlogsync.targets.factory import open_store

_LOCK_TIMEOUT_S = 5.0
_DEFAULT_MAX_CONSUMERS = 1000
"""The limit of nats-server for a stream that sets none."""
_WARN_AT_SHARE = 0.8
_NATS_TIMEOUT_S = 10.0
_LEASE_TIMEOUT_S = 45.0
"""The timeout of `PositionStore.claim`."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; `fix` is what to run or set, "" when `text` contains it."""

    status: Literal["ok", "warning", "error"]
    name: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        text = " ".join(f"{self.text}{'; fix: ' + self.fix if self.fix else ''}".split())
        return f"{self.status:<8} {self.name + ':':<26} {text}"


def run(settings: Settings, arguments: Namespace) -> int:
    """Print each result as it arrives; 1 when one is an error. Raises ConfigError for an unknown source."""
    source = settings.source(arguments.source)
    failed = False
    for result in SourceChecks(settings, source).run():
        failed = failed or result.status == "error"
        write_line(str(result))
    return int(failed)


class SourceChecks:
    """All checks of one source, run once."""

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings = settings
        self._source = source
        self._has_mysql = False
        self._stream: Checkpoint | None = None
        self._first_sequence = 0
        self._facts: ServerFacts | None = None
        self._bookmarks: Sequence[Bookmark] = ()
        self._saved: Checkpoint | None = None

    def run(self) -> Iterator[CheckResult]:
        """The results, in the order in which to fix the problems."""
        checks = (
            ("mysql", self._mysql),
            ("nats", self._nats),
            ("positions", self._positions),
            ("checkpoint", self._checkpoint),
            ("server", self._server),
            ("retention", self._retention),
            ("audit log", self._audit),
            ("warehouse", self._warehouse),
        )
        for name, check in checks:
            try:
                yield from check()
            except BinlogSyncError as error:
                yield CheckResult("error", name, str(error))

    def _mysql(self) -> Iterator[CheckResult]:
        config = self._settings.mysql(self._source)
        info = inspect_server(config)
        self._has_mysql = True
        name = "MariaDB" if info.flavor == ServerFlavor.MARIADB else "MySQL"
        yield CheckResult("ok", "mysql", f"{name} {info.version} at {config.address}, as {config.user}")
        yield from _check_hosts(config)
        yield from map(_preflight_result, preflight(config))

    def _nats(self) -> Iterator[CheckResult]:
        options = self._settings.jetstream()
        spec = options.stream_spec(self._source)
        status = read_stream_status(options, spec)
        yield CheckResult("ok", "nats", f"nats-server {status.version} at {options.address}")
        problems = list(find_account_problems(options, spec))
        for each in problems:
            yield CheckResult("error" if each.is_error else "warning", "nats account", each.text)
        if not problems:
            yield CheckResult("ok", "nats account", "permissions and limits suffice for a tail and its consumers")
        yield _check_stream(status)
        if status.end is not None and not status.problem:
            yield _check_consumers(status)
        if status.foreign:
            yield CheckResult("warning", "stream", describe_foreign(status.foreign, self._source))
        if not status.problem:
            self._stream = status.checkpoint
            self._first_sequence = status.first

    def _positions(self) -> Iterator[CheckResult]:
        with closing(self._settings.positions()) as store:
            if (path := store.missing_file()) is not None:
                yield _check_missing("positions", path)
                return
            lease = store.leases.load(self._source)
            self._saved = store.checkpoints.load(self._source)
            self._facts = ServerFacts.from_text(store.checkpoints.load_facts(self._source))
            self._bookmarks = store.bookmarks.load(self._source)
            yield CheckResult("ok", "positions", store.describe())
            yield _check_lease(lease)

    def _checkpoint(self) -> Iterator[CheckResult]:
        """The position of the next start: from the stream, else from the position store, else from the settings."""
        start = self._settings.tail(self._source).start
        if not self._has_mysql:
            yield CheckResult("warning", "checkpoint", "not checked, because MySQL cannot be reached")
            return
        config = self._settings.mysql(self._source)
        info = inspect_server(config)
        known = (("stream's checkpoint", self._stream), ("saved checkpoint", self._saved))
        for name, checkpoint in known:
            if checkpoint is None:
                continue
            try:
                validate(config, checkpoint)
                if checkpoint.resume is not None:
                    validate(config, checkpoint.read_start())
                moved = checkpoint.server_uuid != info.server_uuid
                state = f"of server {checkpoint.server_uuid} can be resumed by GTID" if moved else "is valid"
                yield CheckResult("ok", name, f"{checkpoint.position} {state} on this server")
            except BinlogSyncError as error:
                yield CheckResult("error", name, str(error))
        if not any(checkpoint for _, checkpoint in known):
            start_position = first_start(config, lambda: self._bookmarks, start).position
            yield CheckResult("ok", "checkpoint", f"none yet; BINLOGSYNC_START={start} starts at {start_position}")

    def _server(self) -> Iterator[CheckResult]:
        """Whether the server changed since the source was tailed last, and whether its clock is right."""
        if not self._has_mysql:
            return
        config = self._settings.mysql(self._source)
        now = ServerFacts.of(inspect_server(config), time.time())
        changes = now.changes_since(self._facts) if self._facts is not None else []
        for change in changes:
            yield CheckResult("warning", "server", f"{change} when the source was tailed last")
        if not changes:
            yield CheckResult(
                "ok",
                "server",
                "unchanged since the last tail" if self._facts is not None else "not tailed yet: nothing to compare",
            )
        ahead_s = clock_ahead_s(config)
        text = f"the server's clock is {abs(ahead_s):.1f} s {'fast' if ahead_s >= 0 else 'slow'}, by this machine's"
        if abs(ahead_s) <= CLOCK_S:
            yield CheckResult("ok", "clock", text)
        else:
            yield CheckResult(
                "warning", "clock", f"{text}: lag and commit times are wrong by as much; synchronize both with NTP"
            )

    def _retention(self) -> Iterator[CheckResult]:
        """How long the server retains each position that is in use."""
        if not self._has_mysql:
            return
        config = self._settings.mysql(self._source)
        info = inspect_server(config)
        retention = BinlogRetention(config, info)
        yield CheckResult("ok", "binlog growth", describe_retention(retention))
        required = [
            *required_by_tail([self._stream, self._saved]),
            *required_by_bookmarks(self._bookmarks),
            *self._consumers(),
        ]
        for status in check_retention(retention, info, required):
            is_lost = status.retained is None and status.position.is_essential
            yield CheckResult("error" if is_lost else "warning" if status.is_short else "ok", "retention", str(status))

    def _consumers(self) -> list[RequiredPosition]:
        """The consumers whose next messages the stream has dropped, from every store of progress."""
        if not self._first_sequence:
            return []
        with NatsConnection(self._settings.nats(_NATS_TIMEOUT_S), f"binlogsync doctor {self._source}") as connection:
            required = required_by_nats_consumers(load_all_progress(connection, self._source), self._first_sequence)
        path = self._settings.warehouse_path()
        if path.exists():
            tables = open_store(path, _LOCK_TIMEOUT_S, SinkError)
            required += required_by_consumers(tables, self._source, self._first_sequence)
        return required

    def _audit(self) -> Iterator[CheckResult]:
        path = self._settings.audit_path()
        yield CheckResult("ok", "audit log", "off") if path is None else _check_duckdb("audit log", path)

    def _warehouse(self) -> Iterator[CheckResult]:
        yield _check_duckdb("warehouse", self._settings.warehouse_path())


def _check_hosts(config: MySQLConfig) -> Iterator[CheckResult]:
    """With several hosts: which ones answer, and whether their identities differ."""
    if len(config.candidates) == 1:
        return
    addresses: dict[str, str] = {}
    for each in config.candidates:
        try:
            info = inspect_server(each)
        except BinlogSyncError as error:
            yield CheckResult("warning", "host", str(error))
            continue
        role = "read-only" if info.is_read_only else "takes writes"
        for identity in {info.server_uuid, f"server_id {info.server_id}"}:
            if identity in addresses:
                yield CheckResult(
                    "error",
                    "host",
                    f"{each.address} and {addresses[identity]} are both {identity}: positions of the two cannot be "
                    "distinguished, and neither can replicate from the other; give each a unique id",
                )
                break
            addresses[identity] = each.address
        yield CheckResult("ok", "host", f"{each.address} is {info.server_uuid}, {role}")


def _preflight_result(finding: Finding) -> CheckResult:
    return CheckResult("ok" if finding.ok else finding.severity, finding.name, finding.message, finding.fix_sql)


def _check_stream(status: StreamStatus) -> CheckResult:
    if status.problem:
        return CheckResult("error", "stream", status.problem)
    if status.end is None:
        return CheckResult("ok", "stream", f"{status.name} does not exist yet; the tail creates it")
    return CheckResult(
        "ok", "stream", f"{status.name} contains {status.messages:,} messages, the last is {status.end.sequence}"
    )


def _check_consumers(status: StreamStatus) -> CheckResult:
    """The number of durables, and the limit."""
    count, most = status.consumers
    limit = most if most > 0 else _DEFAULT_MAX_CONSUMERS
    text = f"stream {status.name} has {count:,} of at most {limit:,} durables"
    if count < _WARN_AT_SHARE * limit:
        return CheckResult("ok", "durables", text)
    fix = (
        f"nats consumer ls {status.name}, then nats consumer rm for those of removed clients and tables; or raise "
        "max_consumers of the stream and of its account, the lower of which is the limit"
    )
    text += "; each client needs one for each table, and an unused one is removed after 14 days"
    if count < limit:
        return CheckResult("warning", "durables", text, fix)
    return CheckResult("error", "durables", f"{text}: no client can read another table", fix)


def _check_lease(lease: Lease | None) -> CheckResult:
    if lease is None:
        return CheckResult("ok", "lease", "never taken yet")
    last = f"{lease.owner}, renewed {lease.age_s:.0f} s ago (epoch {lease.epoch})"
    if lease.released:
        return CheckResult("ok", "lease", f"free; last held by {last}")
    if lease.age_s <= _LEASE_TIMEOUT_S:
        return CheckResult("ok", "lease", f"held by {last}: a tail is running")
    return CheckResult(
        "warning", "lease", f"expired, last held by {last}: that tail did not stop cleanly; the next tail can take it"
    )


def _check_duckdb(name: str, path: Path) -> CheckResult:
    """Whether the file can be locked for writing."""
    if not path.exists():
        return _check_missing(name, path)
    with open_store(path, _LOCK_TIMEOUT_S, SinkError).begin():
        return CheckResult("ok", name, f"{path} can be locked")


def _check_missing(name: str, path: Path) -> CheckResult:
    """A file that does not exist yet: whether its folder is writable."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return CheckResult("ok", name, f"{path} does not exist yet; it is created on first use")
    return CheckResult("error", name, f"{path} cannot be created: {folder} is not writable; choose another path")
