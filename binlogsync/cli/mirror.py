"""`binlogsync mirror`: DuckDB tables equal to all captured tables that match patterns, without Dagster.

The existing rows of a table are loaded from MySQL when its mirror starts, whether the stream has changes of it or not.

It runs the mirrors of the Dagster project (same target, progress and durables), so either can resume what the other has
begun, with the same file and client id. Progress is stored with the rows. The lease of the client id refuses a second
process. A blocked table is retried; the others continue.
"""

from __future__ import annotations

import logging
import threading
import time
from argparse import Namespace
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from binlogsync.binlog.known_tables import fold_tables
from binlogsync.cli.mirror_lines import MirrorLines, Table
from binlogsync.cli.output import write_message
from binlogsync.cli.progress_store import NATS_TIMEOUT_S
from binlogsync.cli.table_argument import read_fold
from binlogsync.codec.subjects import durable_name
from binlogsync.consume.client_lease import ClientLease
from binlogsync.consume.engine import ConsumeOptions
from binlogsync.consume.pool import ConsumerTask, WorkerPool, WorkerPoolOptions
from binlogsync.consume.progress import ProgressKey
from binlogsync.errors import BinlogSyncError, ConfigError, SourceError
from binlogsync.filters import TableFilter
from binlogsync.mirror.clients import check_client
from binlogsync.mirror.target import Mirror
from binlogsync.mysql.information_schema import list_tables
from binlogsync.nats.client import NatsConnection
from binlogsync.nats.reader import StreamReader
from binlogsync.settings import Settings
from binlogsync.signals import stop_on_signals
from binlogsync.snapshot.throttle import LoadLimits
from binlogsync.table_names import Fold
from binlogsync.targets import TableStore
from binlogsync.targets.factory import open_store
from binlogsync.targets.mirror_options import OPTION_NAMES, MirrorOptions

log = logging.getLogger(__name__)
_POLL_S = 0.25
_LOOK_S = 3.0
_REPORT_S = 10.0
_GROUP_ROUND_S = 60.0
_GROUP_IDLE_S = 2.0
_CAUGHT_UP_IDLE_S = 0.5
_MAX_FAILURES = 3
_MAX_LISTED = 10


def run(settings: Settings, arguments: Namespace) -> int:
    """Mirror until Ctrl-C or SIGTERM, or until caught up; 1 if a table is blocked then. Raises BinlogSyncError."""
    command = _MirrorCommand.build(settings, arguments)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(command.reader)
        connection = stack.enter_context(NatsConnection(settings.nats(), f"binlogsync client {command.client_id}"))
        lease = stack.enter_context(ClientLease(connection, command.source, command.client_id))
        return command.run(lease, stop)


@dataclass(slots=True)
class _MirrorCommand:
    """One run of the command."""

    settings: Settings
    arguments: Namespace
    source: str
    fold: Fold
    filter: TableFilter
    options: MirrorOptions
    limits: LoadLimits
    tables: TableStore
    lines: MirrorLines
    reader: StreamReader
    end: int = 0
    has_listed: bool = False
    located: dict[tuple[str, str], Table] = field(default_factory=dict)

    @classmethod
    def build(cls, settings: Settings, arguments: Namespace) -> _MirrorCommand:
        """From the command line. Raises ConfigError, StoreError."""
        source = settings.source(arguments.source)
        fold = read_fold(settings, source)
        return cls(
            settings,
            arguments,
            source,
            fold,
            TableFilter(tuple(arguments.patterns), tuple(arguments.exclude)).folded(fold),
            MirrorOptions.of(**{name: getattr(arguments, name) for name in OPTION_NAMES}),
            choose_limits(settings, arguments),
            open_store(arguments.to, storage_version=settings.values.warehouse.storage_version),
            MirrorLines(_REPORT_S),
            StreamReader(settings.nats(NATS_TIMEOUT_S), source),
        )

    @property
    def client_id(self) -> str:
        return str(self.arguments.client)

    @property
    def until_caught_up(self) -> bool:
        return bool(self.arguments.until_caught_up)

    def run(self, lease: ClientLease, stop: threading.Event) -> int:
        """Run the workers; see the function `run`."""
        for name in ("load", "rebuild"):
            logging.getLogger(f"binlogsync.mirror.{name}").setLevel(logging.INFO)
        self.end = self.reader.last_sequence()
        on_server = self._server_tables()
        self.has_listed = on_server is not None
        tables = self._find_tables(on_server or ())
        self._write_start(tables, on_server)
        pool = WorkerPool((), lambda: StreamReader(self.settings.nats(), self.source), self._pool_options(), stop)
        with pool:
            self._add(pool, tables)
            self._watch(pool, lease, stop)
        self.lines.record(pool.reports(0))
        self.lines.write_due(is_end=True)
        lease.check()
        is_blocked = self.lines.write_blocked()
        return 1 if self.until_caught_up and is_blocked else 0

    def _watch(self, pool: WorkerPool, lease: ClientLease, stop: threading.Event) -> None:
        """Report progress, and look for new tables, until a stop or until caught up."""
        look_at = time.monotonic() + _LOOK_S
        while not stop.is_set() and not lease.is_lost:
            self.lines.record(pool.reports(_POLL_S))
            if self.until_caught_up:
                if self._is_caught_up():
                    return
            elif time.monotonic() >= look_at:
                self._look(pool)
                look_at = time.monotonic() + _LOOK_S

    def _look(self, pool: WorkerPool) -> None:
        """Add the tables that the stream contains now, and those of the server if it could not be read before."""
        try:
            self._add(pool, self.reader.tables())
            if not self.has_listed and (on_server := self._server_tables()) is not None:
                self.has_listed = True
                self._add(pool, filter(self._is_captured, on_server))
        except BinlogSyncError as error:
            log.warning(
                "source %s: cannot list the tables of the stream: %s; retrying in %.0f s", self.source, error, _LOOK_S
            )

    def _server_tables(self) -> set[Table] | None:
        """Matching tables of the server; None if it cannot be read."""
        try:
            found = fold_tables(tuple(list_tables(self.settings.mysql(self.source))), self.fold)
        except SourceError as error:
            log.warning("source %s: the tables of MySQL cannot be listed: %s", self.source, error)
            return None
        return {table for table in found if self.filter.captures(*table)}

    def _is_captured(self, table: Table) -> bool:
        """Whether the settings of the tail include the table."""
        tail = self.settings.tail(self.source)
        return TableFilter(tail.include, tail.exclude).folded(self.fold).captures(*table)

    def _find_tables(self, on_server: Iterable[Table]) -> set[Table]:
        """Captured tables of the server, tables of the stream, and those with a mirror in the file."""
        with self.tables.begin() as transaction:
            mirrored = transaction.list_mirrors(self.client_id, self.source)
        captured = {table for table in on_server if self._is_captured(table)}
        return captured | {table for table in {*self.reader.tables(), *mirrored} if self.filter.captures(*table)}

    def _add(self, pool: WorkerPool, tables: Iterable[Table]) -> None:
        """Mirror those of the tables that match and are new."""
        for table in sorted(table for table in tables if table not in self.lines.tables):
            if not self.filter.captures(*table):
                continue
            try:
                self._reserve(table)
                with self.tables.begin() as transaction:
                    check_client(transaction, ProgressKey(self.client_id, self.source, *table))
            except ConfigError as error:
                log.warning("%s", error)
                self.lines.add(table)
                self.lines.block(table, error, _MAX_FAILURES)
                continue
            self.lines.add(table)
            self._add_task(pool, table)

    def _reserve(self, table: Table) -> None:
        """Raise ConfigError if the patterns of target names give the table the name of another one."""
        options = self.options.for_table(self.source, *table)
        if options.location is not None:
            schema, name = options.location
            other = self.located.setdefault((schema.lower(), name.lower()), table)
            if other != table:
                raise ConfigError(
                    f"{'.'.join(table)} and {'.'.join(other)} would both become the table {schema}.{name}; write "
                    "--target-schema and --target-table with {database} and {table}"
                )

    def _add_task(self, pool: WorkerPool, table: Table) -> None:
        target = Mirror(self.tables.another(), *table, self.settings.mysql(self.source), self.options, self.limits)
        task = ConsumerTask(table, target, ConsumeOptions(client_id=self.client_id))
        if self.arguments.together and pool.tables:
            pool.add_together(task, pool.tables[0])
        else:
            pool.add(task)

    def _pool_options(self) -> WorkerPoolOptions:
        idle_s = _GROUP_IDLE_S if self.arguments.together else None
        return WorkerPoolOptions(
            first_round_s=1.0,
            # A group reads an incomplete transaction again in each round, so its rounds are longer.
            round_s=_GROUP_ROUND_S if self.arguments.together else _REPORT_S,
            idle_s=_CAUGHT_UP_IDLE_S if self.until_caught_up else idle_s,
            first_wait_s=1.0,
        )

    def _is_caught_up(self) -> bool:
        """True when each table has applied all messages of the stream, or has failed several times."""
        left = [table for table in self.lines.tables.values() if not table.is_caught_up]
        if any(table.is_read for table in left):
            pending = self.reader.pending_counts()
            for (database, name), table in self.lines.tables.items():
                # The durable is at the right position once a round has ended.
                if table.is_read and table.error is None:
                    is_drained = pending.get(durable_name(self.client_id, database, name)) == 0
                    table.is_caught_up = table.is_caught_up or is_drained or table.sequence >= self.end
        return all(table.is_caught_up or table.failures >= _MAX_FAILURES for table in left)

    def _write_start(self, tables: set[Table], on_server: set[Table] | None) -> None:
        """Report what is mirrored, and which tables are not."""
        until = "until caught up" if self.until_caught_up else "stop with Ctrl-C"
        write_message(
            f"{self.source}: {len(tables)} table(s) of stream {self.reader.stream} to {self.tables.address}, client "
            f"{self.client_id}; {until}"
        )
        if on_server is None:
            write_message("only tables that the stream contains are mirrored until MySQL can be read")
        if omitted := (on_server or set()) - tables:
            write_message(
                f"not tailed: {_join(omitted)}; change BINLOGSYNC_INCLUDE or BINLOGSYNC_EXCLUDE, and restart the tail"
            )
        for pattern in self.arguments.patterns:
            matched = TableFilter((pattern,), tuple(self.arguments.exclude)).folded(self.fold)
            if not any(matched.captures(*table) for table in tables | (on_server or set())):
                write_message(f"no table matches {pattern} yet; check its spelling")


def choose_limits(settings: Settings, arguments: Namespace) -> LoadLimits:
    """The limits of loads; an option wins over its setting. Raises ConfigError."""
    limits = settings.load_limits()
    if arguments.rows_per_second is not None:
        limits = replace(limits, rows_per_s=arguments.rows_per_second or None)
    if arguments.threads_running is not None:
        limits = replace(limits, threads_running=arguments.threads_running or None)
    return limits


def _join(tables: Iterable[Table]) -> str:
    names = [".".join(table) for table in sorted(tables)]
    return ", ".join(names[:_MAX_LISTED]) + (
        f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    )
