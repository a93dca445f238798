"""binlogsync.Consumer with a real nats-server: where it starts, resumes and stops; one live client for each id."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from binlogsync import Change, ClientTakenError, Consumer, HandlerError, Retry
from binlogsync.bookmarks import Bookmark
from binlogsync.codec.subjects import stream_name
from binlogsync.consume.start_position import Start
from binlogsync.errors import ConfigError, ModelError, WireError
from binlogsync.nats.client import NatsOptions
from binlogsync.nats.reader import StreamReader
from binlogsync.position import Checkpoint
from binlogsync.servers import NATSServer
from binlogsync.stores.memory import MemoryPositionStore
from binlogsync.stores.nats import NatsPositionStore
from binlogsync.stores.sqlite import SQLitePositionStore
from tests.consume.test_consume import RETRY, FailingHandler, SampleRow, SampleStream, ids, record
from tests.duck import query
from tests.forked import ForkedProcess
from tests.nats_commands import delete_stream
from tests.samples import SampleTransaction
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
TABLE = "shop.samples"
ONE = [SampleTransaction((0,))]
"""A flush of one change."""


@dataclass
class NoteRow:
    id: int
    c_text: str | None


@pytest.fixture
def stream(nats_server: NATSServer, request: pytest.FixtureRequest) -> Iterator[SampleStream]:
    name = f"k{abs(hash(request.node.name)) % 10**9}"
    yield SampleStream(nats_server.url, name)
    delete_stream(nats_server.url, stream_name(name))


def client(stream: SampleStream, client_id: str = "client1", **options: Any) -> Consumer:
    return Consumer(client_id, url=stream.url, source=stream.name, **options)


def seen_by(consumer: Consumer) -> list[str]:
    """Ids of the changes that the consumer handles until no more are pending."""
    found: list[Change[SampleRow]] = []
    consumer.register(SampleRow, found.append, table=TABLE)
    consumer.run(idle_s=0.2)
    return [change.id for change in found]


def test_a_consumer_resumes_after_its_last_change(stream: SampleStream) -> None:
    stream.write(6)
    assert seen_by(client(stream)) == ids("samples", 6)
    assert seen_by(client(stream)) == []
    stream.write(4)
    assert seen_by(client(stream)) == ids("samples", 6, 4)[len(ids("samples", 6)) :]


def test_every_client_id_gets_every_change(stream: SampleStream) -> None:
    stream.write(6)
    assert seen_by(client(stream, "a")) == seen_by(client(stream, "b")) == ids("samples", 6)


def test_several_tables_and_shapes_in_one_client(stream: SampleStream) -> None:
    stream.write(6)
    consumer, notes, samples = client(stream), list[str](), list[str]()

    @consumer.register(NoteRow, table="shop.notes")
    def on_note(frame: pd.DataFrame) -> None:
        notes.extend(frame["id"])

    @consumer.register(SampleRow, table=TABLE)
    async def on_sample(change: Change[SampleRow]) -> None:
        await asyncio.sleep(0)
        samples.append(change.id)

    consumer.run(idle_s=0.2)
    assert (notes, samples) == (ids("notes", 6), ids("samples", 6))
    status = consumer.status()[TABLE]
    assert (status.changes, status.error) == (len(samples), None)
    assert status.lag_s is not None


def test_the_table_is_known_from_the_model(stream: SampleStream) -> None:
    stream.write(3)
    found: list[Change[SampleRow]] = []
    consumer = client(stream)
    consumer.register(SampleRow, found.append)
    consumer.run(idle_s=0.2)
    assert [change.id for change in found] == ids("samples", 3)


def test_async_handlers_run_in_the_loop_of_the_caller(stream: SampleStream) -> None:
    stream.write(3)
    loops = []

    async def main() -> asyncio.AbstractEventLoop:
        consumer = client(stream)

        @consumer.register(SampleRow, table=TABLE)
        async def on_sample(change: Change[SampleRow]) -> None:
            loops.append(asyncio.get_running_loop())

        await consumer.run_async(idle_s=0.2)
        return asyncio.get_running_loop()

    loop = asyncio.run(main())
    assert loops == [loop] * len(ids("samples", 3))


def test_cancelling_an_async_client_stops_it_in_good_order(stream: SampleStream) -> None:
    stream.write(3)
    found: list[Change[SampleRow]] = []

    async def main() -> None:
        consumer = client(stream)
        consumer.register(SampleRow, found.append, table=TABLE)
        task = asyncio.ensure_future(consumer.run_async())
        while len(found) < len(ids("samples", 3)):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen_by(client(stream)) == []


def bookmark_at(checkpoint: Checkpoint) -> Bookmark:
    return Bookmark(checkpoint, "person", checkpoint.ts_us, checkpoint.ts_us, "before the sale")


def starts(stream: SampleStream) -> dict[str, tuple[Start, int]]:
    """Notations of a start among ten transactions of one change each, by name, with the index of the first change."""
    stream.write(*[ONE] * 10)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        found = reader.changes_from("shop", "samples", 1)
        sequences = [found[0].last_sequence]
        while found := reader.changes_from("shop", "samples", sequences[-1] + 1):
            sequences.append(found[0].last_sequence)
        seventh = next(reader.changes_from("shop", "samples", sequences[6])[0].batch.changes())
        checkpoint = reader.checkpoint_at(sequences[5])
    assert checkpoint is not None
    mark = bookmark_at(checkpoint)
    return {
        "all": ("all", 0),
        "new": ("new", 10),
        "sequence": (sequences[6], 6),
        "beyond": (sequences[-1] + 1000, 10),
        "time": (seventh.source.ts, 6),
        "later": (seventh.source.ts + timedelta(days=999), 10),
        "long-ago": (datetime(2001, 1, 1, tzinfo=UTC), 0),
        "bookmark": (mark, 6),
        "its-name": ("before the sale", 6),
        "its-key": (mark.key, 6),
        "as-configured": ("bookmark:before the sale", 6),
        "position": (str(checkpoint.position), 6),
        "gtids": (str(checkpoint.gtids), 6),
        "seq": (f"seq:{sequences[6]}", 6),
        "iso-time": (seventh.source.ts.isoformat(), 6),
        "oldest": ("oldest", 0),
        "head": ("head", 10),
    }


def test_where_a_new_client_begins(stream: SampleStream) -> None:
    cases, positions = starts(stream), MemoryPositionStore()
    mark = cases["bookmark"][0]
    assert isinstance(mark, Bookmark)
    positions.bookmarks.put(stream.name, mark)
    everything = ids("samples", *[ONE] * 10)
    for name, (start, first) in cases.items():
        known = client(stream, name, start=start, positions=positions)
        assert (name, seen_by(known)) == (name, everything[first:])
    stream.write(ONE)
    more = ids("samples", *[ONE] * 11)[-1:]
    positions.bookmarks.delete(stream.name, mark.key)
    for name, (start, _) in cases.items():  # a client with progress no longer needs the bookmark
        assert (name, seen_by(client(stream, name, start=start, positions=positions))) == (name, more)


@pytest.mark.parametrize("kept_in", ["sqlite", "nats", "unset"])
def test_a_bookmark_is_found_where_this_deployment_keeps_them(
    stream: SampleStream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if kept_in != "unset":
        Path(".env").write_text(
            f"BINLOGSYNC_POSITIONS={kept_in}\nBINLOGSYNC_NATS_URL={stream.url}\nBINLOGSYNC_POSITIONS_PATH=positions.db\n"
        )
    sqlite = kept_in == "sqlite"
    stream.write(*[ONE] * 3)
    with StreamReader(NatsOptions(url=stream.url), stream.name) as reader:
        checkpoint = reader.checkpoint_at(reader.changes_from("shop", "samples", 1)[0].last_sequence)
    assert checkpoint is not None
    with closing(
        SQLitePositionStore(Path("positions.db")) if sqlite else NatsPositionStore(NatsOptions(url=stream.url))
    ) as store:
        store.bookmarks.put(stream.name, bookmark_at(checkpoint))
    assert seen_by(client(stream, start="before the sale")) == ids("samples", *[ONE] * 3)[1:]
    with pytest.raises(
        ConfigError, match=f"'2nd' is not a bookmark of source {stream.name}; names are 'before the sale'"
    ):
        seen_by(client(stream, "other", start="2nd"))


@pytest.mark.parametrize("start", ["", "2026-01-01T00:00:00", 0, datetime(2026, 1, 1), None])
def test_a_start_that_cannot_be_is_refused(start: Any) -> None:
    with pytest.raises(ConfigError, match="start|range"):
        Consumer("a", start=start)


def test_what_cannot_work_is_refused_when_it_is_registered() -> None:
    consumer = Consumer("a")
    with pytest.raises(ConfigError, match="takes 0 arguments"):
        consumer.register(SampleRow, lambda: None, table=TABLE)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="not a model"):
        consumer.register(int, print, table=TABLE)
    with pytest.raises(ConfigError, match="progress is not kept in DuckDB"):
        consumer.register(SampleRow, record, table=TABLE)
    consumer.register(SampleRow, print, table=TABLE)
    with pytest.raises(ConfigError, match="already has a handler"):
        consumer.register(SampleRow, print, table=TABLE)
    with pytest.raises(ConfigError, match="no handler is registered"):
        Consumer("b").run()


def test_a_source_without_a_stream_is_an_error(nats_server: NATSServer) -> None:
    consumer = Consumer("a", url=nats_server.url, source="missing")
    consumer.register(SampleRow, print, table=TABLE)
    with pytest.raises(WireError, match="source missing has no stream"):
        consumer.run()


def test_with_a_duckdb_file_what_a_handler_writes_is_there_once(stream: SampleStream, tmp_path: Path) -> None:
    stream.write(6)
    path = tmp_path / "mine.duckdb"
    for transactions in (0, 3):
        stream.write(*[transactions] if transactions else [])
        consumer = client(stream, progress=path)
        consumer.register(SampleRow, record, table=TABLE)
        consumer.run(idle_s=0.2)
    assert [row[0] for row in query(path, "SELECT id FROM seen ORDER BY n")] == ids("samples", 6, 3)


def test_a_handler_that_fails_holds_its_own_table_only(stream: SampleStream) -> None:
    stream.write(12)
    wanted = ids("samples", 12)
    bad, notes = FailingHandler(wanted[6], times=100), list[Any]()
    consumer = client(stream, retry=Retry(tries=2, first_wait_s=0.01))
    consumer.register(SampleRow, bad.plain, table=TABLE)
    consumer.register(NoteRow, notes.append, table="shop.notes")
    with pytest.raises(HandlerError, match="not today"):
        consumer.run(idle_s=0.5)
    assert isinstance(consumer.status()[TABLE].error, HandlerError)
    assert consumer.status()["shop.notes"].error is None
    assert [change.id for change in notes] == ids("notes", 12)
    assert set(bad.calls[6:]) == {wanted[6]}
    bad.times = 0
    bad.calls.clear()
    consumer.run(idle_s=0.2)
    assert bad.calls == wanted[6:]
    assert consumer.status()[TABLE].error is None


def test_it_is_called_again_while_the_client_runs(stream: SampleStream) -> None:
    stream.write(6)
    wanted = ids("samples", 6)
    bad = FailingHandler(wanted[3], times=5)
    consumer = client(stream, retry=RETRY)

    def until_the_last(change: Change[SampleRow]) -> None:
        bad.plain(change)
        if change.id == wanted[-1]:
            consumer.stop()

    consumer.register(SampleRow, until_the_last, table=TABLE)
    consumer.run()
    assert bad.calls == wanted[:3] + [wanted[3]] * 5 + wanted[3:]


def run_client(url: str, source: str, client_id: str) -> int:
    """What the other process does: it prints each change."""
    consumer = Consumer(client_id, url=url, source=source)

    @consumer.register(SampleRow, table=TABLE)
    def on_sample(change: Change[SampleRow]) -> None:
        print(change.id, flush=True)  # noqa: T201
        time.sleep(0.02)

    consumer.run()
    print("ended", flush=True)  # noqa: T201
    return 0


@dataclass
class ClientProcess:
    """A client in another process, and the lines that it prints."""

    process: ForkedProcess
    lines: list[str]

    def ids(self) -> list[str]:
        return [line for line in self.lines if ":" in line and " " not in line]


@pytest.fixture
def start_program(stream: SampleStream) -> Iterator[Callable[[], ClientProcess]]:
    started: list[ClientProcess] = []

    def start() -> ClientProcess:
        process = ForkedProcess(
            "tests.consume.test_consumer",
            stream.url,
            stream.name,
            "client1",
            function="run_client",
            stdout=subprocess.PIPE,
        )
        program = ClientProcess(process, [])
        threading.Thread(target=_read, args=(program,), daemon=True).start()
        started.append(program)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.wait()
        assert program.process.stdout is not None
        program.process.stdout.close()


def _read(program: ClientProcess) -> None:
    assert program.process.stdout is not None
    for line in program.process.stdout:
        program.lines.append(line.strip())


def test_one_id_has_one_live_client(stream: SampleStream, start_program: Callable[[], ClientProcess]) -> None:
    stream.write(200)
    wanted = ids("samples", 200)
    first = start_program()
    wait_until(lambda: first.ids(), 60, "the first client to handle a change")
    with pytest.raises(ClientTakenError, match=rf"'client1' .* is already running: process {first.process.pid} on"):
        seen_by(client(stream))
    first.process.kill()
    first.process.wait()
    stream.write(50)  # the first client may have handled all changes by then
    wanted = ids("samples", 200, 50)
    second = start_program()
    wait_until(lambda: second.ids(), 60, "the second client to take over")
    assert first.ids() == wanted[: len(first.ids())]
    assert second.ids()[0] in wanted[max(0, len(first.ids()) - 60) : len(first.ids()) + 1]
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(120) == 0
    wait_until(lambda: "ended" in second.lines, 10, "the client to report its end")
    done = second.ids()[-1]
    rest = seen_by(client(stream))
    assert rest == wanted[wanted.index(done) + 1 :], "SIGTERM stores the last change, and nothing comes twice"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import binlogsync", ("pyarrow", "numba", "nats", "dagster")),
        ("from binlogsync import Change", ("numba", "nats", "duckdb", "pandas", "dagster")),
        ("from binlogsync import Consumer", ("dagster", "pandas", "pymysql", "redis", "pydantic")),
    ],
)
def test_importing_is_cheap(code: str, absent: tuple[str, ...]) -> None:
    program = f"{code}\nimport sys\nprint([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
