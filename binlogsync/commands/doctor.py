"""`binlogsync doctor`: what a tail needs, looked at from the outside: ok, warning or error, and the fix, a line each.

Nothing is made or changed: no stream, no file, no lease. A part that cannot be asked does not hide the others.
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
from binlogsync.commands.nats_needs import unmet_needs
from binlogsync.commands.output import write_line
from binlogsync.commands.stream_look import StreamLook, look_at_stream
from binlogsync.consume.progress_nats import load_all_progress
from binlogsync.duckfile import DuckFile
from binlogsync.errors import BinlogSyncError, SinkError
from binlogsync.mysql import Finding, MySQLConfig, inspect_server, preflight, validate
from binlogsync.mysql.retention import Retention, clock_ahead_s
from binlogsync.position import Checkpoint
from binlogsync.server_facts import ServerFacts
from binlogsync.settings import Settings
from binlogsync.sinks.jetstream.foreign import describe_foreign
from binlogsync.stores import Lease, PositionStore
from binlogsync.stores.nats import NatsPositionStore
from binlogsync.stores.redis import RedisPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore
from binlogsync.stream.client import NatsConnection
from binlogsync.tail.origin import first_start
from binlogsync.worth import (
    CLOCK_S,
    Need,
    assess,
    bookmark_needs,
    consumer_needs,
    nats_consumer_needs,
    rate_text,
    tail_need,
)

_LOCK_TIMEOUT_S = 5.0
_DEFAULT_CONSUMERS, _NEARLY = 1000, 0.8
"""What nats-server allows where a stream does not say."""
_PATIENCE_S = 10.0
_ALIVE_S = 45.0
"""As `PositionStore.claim` has it."""


@dataclass(frozen=True, slots=True)
class Line:
    """What was found of one thing; `fix` is what to run or set, "" when the text says it."""

    status: Literal["ok", "warning", "error"]
    name: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        said = " ".join(f"{self.text}{'; fix: ' + self.fix if self.fix else ''}".split())
        return f"{self.status:<8} {self.name + ':':<26} {said}"


def run(settings: Settings, arguments: Namespace) -> int:
    """Write the lines as they come; 1 when one of them is an error. Raises ConfigError for a source that is unknown."""
    source = settings.source(arguments.source)
    failed = False
    for line in Examination(settings, source).lines():
        failed = failed or line.status == "error"
        write_line(str(line))
    return int(failed)


class Examination:
    """One look at everything of one source."""

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings = settings
        self._source = source
        self._has_mysql = False
        self._stream: Checkpoint | None = None
        self._first_sequence = 0
        self._facts: ServerFacts | None = None
        self._bookmarks: Sequence[Bookmark] = ()
        self._saved: Checkpoint | None = None

    def lines(self) -> Iterator[Line]:
        """In the order in which to mend them."""
        parts = (
            ("mysql", self._mysql),
            ("nats", self._nats),
            ("positions", self._positions),
            ("checkpoint", self._checkpoint),
            ("server", self._server),
            ("worth", self._worth),
            ("audit log", self._audit),
            ("warehouse", self._warehouse),
        )
        for name, part in parts:
            try:
                yield from part()
            except BinlogSyncError as error:
                yield Line("error", name, str(error))

    def _mysql(self) -> Iterator[Line]:
        config = self._settings.mysql(self._source)
        info = inspect_server(config)
        self._has_mysql = True
        name = "MariaDB" if info.flavor == "mariadb" else "MySQL"
        yield Line("ok", "mysql", f"{name} {info.version} at {config.address}, as {config.user}")
        yield from _line_of_hosts(config)
        yield from map(_line_of, preflight(config))

    def _nats(self) -> Iterator[Line]:
        options = self._settings.jetstream()
        look = look_at_stream(options, self._source)
        yield Line("ok", "nats", f"nats-server {look.version} at {options.place}")
        unmet = list(unmet_needs(options, self._source))
        yield from (Line("error", "nats account", each) for each in unmet)
        if not unmet:
            yield Line("ok", "nats account", "permissions and limits are enough for a tail and its consumers")
        yield _line_of_stream(look)
        if look.end is not None and not look.wrong:
            yield _line_of_consumers(look)
        if look.foreign:
            yield Line("warning", "stream", describe_foreign(look.foreign, self._source))
        if not look.wrong:
            self._stream = look.checkpoint
            self._first_sequence = look.first

    def _positions(self) -> Iterator[Line]:
        with closing(self._settings.positions()) as store:
            if isinstance(store, SQLitePositionStore) and not store.path.exists():
                yield _line_of_missing("positions", store.path)
                return
            lease = store.lease(self._source)
            self._saved = store.load(self._source)
            self._facts = ServerFacts.from_text(store.facts(self._source))
            self._bookmarks = store.bookmarks(self._source)
            yield Line("ok", "positions", _place(store))
            yield _line_of_lease(lease)

    def _checkpoint(self) -> Iterator[Line]:
        """Where the next start begins: what the stream says, else what the store says, else what is configured."""
        start = self._settings.tail(self._source).start
        if not self._has_mysql:
            yield Line("warning", "checkpoint", "not looked at, because MySQL cannot be asked")
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
                    validate(config, checkpoint.to_read())
                moved = checkpoint.server_uuid != info.server_uuid
                of = f"of server {checkpoint.server_uuid} is gone on with by GTID" if moved else "is still good"
                yield Line("ok", name, f"{checkpoint.position} {of} on this server")
            except BinlogSyncError as error:
                yield Line("error", name, str(error))
        if not any(checkpoint for _, checkpoint in known):
            begin = first_start(config, lambda: self._bookmarks, start).position
            yield Line("ok", "checkpoint", f"none yet; BINLOGSYNC_START={start} begins at {begin}")

    def _server(self) -> Iterator[Line]:
        """Is it what it was when the source was tailed last, and does its clock agree with this machine's?"""
        if not self._has_mysql:
            return
        config = self._settings.mysql(self._source)
        now = ServerFacts.of(inspect_server(config), time.time())
        changes = now.changes_since(self._facts) if self._facts is not None else []
        for change in changes:
            yield Line("warning", "server", f"{change} when the source was tailed last")
        if not changes:
            yield Line("ok", "server", "as it was" if self._facts is not None else "not tailed yet: nothing to compare")
        ahead_s = clock_ahead_s(config)
        said = f"the server's clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s >= 0 else 'behind'} this machine's"
        if abs(ahead_s) <= CLOCK_S:
            yield Line("ok", "clock", said)
        else:
            yield Line("warning", "clock", f"{said}: lag and times of commits are off by that; set both by NTP")

    def _worth(self) -> Iterator[Line]:
        """How long the server has what is needed of it."""
        if not self._has_mysql:
            return
        config = self._settings.mysql(self._source)
        info = inspect_server(config)
        retention = Retention(config, info)
        yield Line("ok", "retention", rate_text(retention))
        needs = [*tail_need([self._stream, self._saved]), *bookmark_needs(self._bookmarks), *self._consumers()]
        for worth in assess(retention, info, needs):
            is_lost = worth.left is None and worth.need.is_essential
            yield Line("error" if is_lost else "warning" if worth.is_short else "ok", "worth", str(worth))

    def _consumers(self) -> list[Need]:
        """Of those whose next messages the stream has dropped, wherever they keep their progress."""
        if not self._first_sequence:
            return []
        with NatsConnection(self._settings.nats(_PATIENCE_S), f"binlogsync doctor {self._source}") as connection:
            needs = nats_consumer_needs(load_all_progress(connection, self._source), self._first_sequence)
        path = self._settings.warehouse_path()
        if path.exists():
            needs += consumer_needs(DuckFile(path, _LOCK_TIMEOUT_S, SinkError), self._source, self._first_sequence)
        return needs

    def _audit(self) -> Iterator[Line]:
        path = self._settings.audit_path()
        yield Line("ok", "audit log", "off") if path is None else _line_of_duckdb("audit log", path)

    def _warehouse(self) -> Iterator[Line]:
        yield _line_of_duckdb("warehouse", self._settings.warehouse_path())


def _line_of_hosts(config: MySQLConfig) -> Iterator[Line]:
    """Of several hosts: who answers, and whether they can be told apart."""
    if len(config.candidates) == 1:
        return
    seen: dict[str, str] = {}
    for each in config.candidates:
        try:
            info = inspect_server(each)
        except BinlogSyncError as error:
            yield Line("warning", "host", str(error))
            continue
        role = "read-only" if info.is_read_only else "takes writes"
        for identity in {info.server_uuid, f"server_id {info.server_id}"}:
            if identity in seen:
                yield Line(
                    "error",
                    "host",
                    f"{each.address} and {seen[identity]} are both {identity}: positions of the two cannot be told "
                    "apart, and neither replicates from the other; give each an id of its own",
                )
                break
            seen[identity] = each.address
        yield Line("ok", "host", f"{each.address} is {info.server_uuid}, {role}")


def _line_of(finding: Finding) -> Line:
    return Line("ok" if finding.ok else finding.severity, finding.name, finding.message, finding.fix_sql)


def _line_of_stream(look: StreamLook) -> Line:
    if look.wrong:
        return Line("error", "stream", look.wrong)
    if look.end is None:
        return Line("ok", "stream", f"{look.name} is not there yet; the tail makes it")
    return Line("ok", "stream", f"{look.name} holds {look.messages:,} messages, the last is {look.end.sequence}")


def _line_of_consumers(look: StreamLook) -> Line:
    """How many durables there are, of how many that may be."""
    count, most = look.consumers
    limit = most if most > 0 else _DEFAULT_CONSUMERS
    said = f"{count:,} durables of {limit:,} that stream {look.name} may have"
    if count < _NEARLY * limit:
        return Line("ok", "durables", said)
    fix = f"nats consumer ls {look.name}, and nats consumer rm for those of clients and tables that are gone"
    return Line("warning", "durables", f"{said}; one that nobody uses is removed after 14 days", fix)


def _line_of_lease(lease: Lease | None) -> Line:
    if lease is None:
        return Line("ok", "lease", "no tail has had it yet")
    last = f"{lease.owner}, heard of {lease.age_s:.0f} s ago (epoch {lease.epoch})"
    if lease.released:
        return Line("ok", "lease", f"free; last held by {last}")
    if lease.age_s <= _ALIVE_S:
        return Line("ok", "lease", f"held by {last}: a tail is running")
    return Line(
        "warning", "lease", f"left behind by {last}: that tail did not end in good order; the next may claim it"
    )


def _line_of_duckdb(name: str, path: Path) -> Line:
    """Whether the file can be had for writing."""
    if not path.exists():
        return _line_of_missing(name, path)
    with DuckFile(path, _LOCK_TIMEOUT_S, SinkError).transaction():
        return Line("ok", name, f"{path} can be locked")


def _line_of_missing(name: str, path: Path) -> Line:
    """A file that is made when it is needed, if its folder allows."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Line("ok", name, f"{path} is not there yet; it is made when it is needed")
    return Line("error", name, f"{path} cannot be made: {folder} cannot be written to; choose another path")


def _place(store: PositionStore) -> str:
    """Where a store is."""
    if isinstance(store, SQLitePositionStore):
        return f"SQLite file {store.path}"
    if isinstance(store, NatsPositionStore):
        return f"key-value bucket of NATS at {store.options.place}"
    return store.options.place if isinstance(store, RedisPositionStore) else store.name
