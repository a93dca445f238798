"""NATS accounts: the permissions in docs/nats.md suffice; missing permissions and low limits are reported at once.

Credentials by JWT and by NKey.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from binlogsync import Change, Consumer, servers
from binlogsync.cli.main import main
from binlogsync.codec.subjects import large_bucket, stream_name
from binlogsync.errors import ConfigError, SinkError
from binlogsync.nats.account import find_account_problems, published_subjects
from binlogsync.nats.client import DeniedError, NatsConnection, NatsOptions
from binlogsync.nats.objects import put_object
from binlogsync.nats.snapshot_readers import find_snapshot_readers
from binlogsync.nats.stream_status import read_stream_status
from binlogsync.servers import NATSServer
from binlogsync.sinks.jetstream import JetStreamOptions, JetStreamSink
from binlogsync.snapshot.requests import new_request
from binlogsync.snapshot.requests_nats import NatsSnapshotRequests
from binlogsync.stores.nats import NatsPositionStore
from tests.databases import FreshDatabase
from tests.duck import mirror_rows
from tests.e2e.large_row import LargeDocument
from tests.e2e.tailing import TailThread, config_of, mirror, options_of, stream_sink
from tests.nats.jwts import operator_mode, user_key
from tests.sinks.jetstream_streams import samples

ROOT = Path(__file__).parents[2]
SOURCE = "exact"
KEY = user_key()


def readme_permissions(source: str) -> tuple[list[str], list[str]]:
    """The subjects in docs/nats.md for a source: to publish, and to subscribe."""
    text = (ROOT / "docs/nats.md").read_text(encoding="utf-8").split("needs these permissions", 1)[1]
    found = re.findall(r"^ {4}(publish|subscribe): (.*)$", text, re.MULTILINE)
    kinds: dict[str, list[str]] = {}
    for kind, subjects in found:
        own = subjects.replace("SOURCE", source.upper()).replace("source", source)
        kinds[kind] = [*kinds.get(kind, []), *own.split()]
    return kinds["publish"], kinds["subscribe"]


def quote_subjects(subjects: list[str]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"


def accounts_config() -> str:
    publish, subscribe = readme_permissions(SOURCE)
    exact = f"permissions: {{ publish: {quote_subjects(publish)}, subscribe: {quote_subjects(subscribe)} }}"
    users = [f'{{ user: "exact", password: "p", {exact} }}', f'{{ nkey: "{KEY.public}" }}']
    denied = {
        "nostream": "cdc.>",
        "nokv": "$KV.>",
        "noobject": "$O.>",
        "noapi": "$JS.API.>",
        "norows": "cdc_snapshot.>",
    }
    for name, subject in denied.items():
        users.append(f'{{ user: "{name}", password: "p", permissions: {{ publish: {{ deny: "{subject}" }} }} }}')
    users.append('{ user: "noinbox", password: "p", permissions: { subscribe: { deny: "_INBOX.>" } } }')
    small = '{ jetstream: { max_streams: 1 }, users: [ { user: "small", password: "p" } ] }'
    sized = '{ jetstream: { max_file: 1GB, max_bytes_required: true }, users: [ { user: "sized", password: "p" } ] }'
    few = '{ jetstream: { max_consumers: 5 }, users: [ { user: "few", password: "p" } ] }'
    app = f"{{ jetstream: enabled, users: [ {', '.join(users)} ] }}"
    return f"{{ APP: {app}, SMALL: {small}, SIZED: {sized}, FEW: {few} }}"


@pytest.fixture(scope="module")
def server() -> Iterator[NATSServer]:
    with servers.nats(options={"accounts": accounts_config()}) as server:
        yield server


def url(server: NATSServer, user: str) -> str:
    return server.url.replace("nats://", f"nats://{user}:p@")


def problems_of(options: JetStreamOptions, source: str) -> list[str]:
    return [each.text for each in find_account_problems(options, options.stream_spec(source))]


@pytest.mark.server
def test_the_listed_permissions_suffice(
    server: NATSServer, mysql: FreshDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = url(server, "exact")
    mysql.execute("CREATE TABLE docs (id INT PRIMARY KEY, body LONGTEXT NOT NULL)")
    with closing(NatsPositionStore(NatsOptions(url=own))) as store:
        options = options_of(SOURCE, mysql.name)
        with TailThread(config_of(mysql.server, SOURCE), [stream_sink(own)], store, options) as tail:
            tail.wait_begun()
            mysql.execute("INSERT INTO docs VALUES (1, 'small'), (2, REPEAT('large', 400000))")
            mysql.execute("UPDATE docs SET body = 'other' WHERE id = 1")
            tail.catch_up()
    with closing(NatsSnapshotRequests(NatsOptions(url=own), SOURCE)) as requests:
        requests.create(new_request([f"{mysql.name}.nothing"]))
        assert len(requests.list()) == 1
    mirror(own, SOURCE, tmp_path / "w.duckdb", (mysql.name, "docs"))
    expected = [(1, "other"), (2, "large" * 400_000)]
    assert mirror_rows(tmp_path / "w.duckdb", mysql.name, "docs") == expected
    handled: list[int] = []
    consumer = Consumer("exact", url=own, source=SOURCE)

    def handle(change: Change[LargeDocument]) -> None:
        handled.append(change.after.id if change.after else 0)

    consumer.register(LargeDocument, handle, table=f"{mysql.name}.docs")
    consumer.run(idle_s=0.5)
    assert handled == [1, 2, 1]
    monkeypatch.chdir(tmp_path)
    config = config_of(mysql.server, SOURCE)
    lines = {
        "SOURCE": SOURCE,
        "NATS_URL": own,
        "MYSQL_HOST": config.host,
        "MYSQL_PORT": config.port,
        "MYSQL_USER": config.user,
        "MYSQL_PASSWORD": config.password,
        "POSITIONS": "nats",
    }
    (tmp_path / ".env").write_text("".join(f"BINLOGSYNC_{name}='{value}'\n" for name, value in lines.items()))
    words = ["--from", "oldest", "--until", "head", "--to", "parquet:replayed"]
    assert main(["replay", f"{mysql.name}.docs", *words]) == 0
    assert [*(tmp_path / "replayed").glob("*.parquet")]
    assert problems_of(JetStreamOptions(url=own), SOURCE) == []


@pytest.mark.server
@pytest.mark.parametrize("user", ["nostream", "nokv", "noobject", "noapi", "noinbox"])
def test_a_missing_permission_is_reported_at_once(server: NATSServer, user: str) -> None:
    """During one request, which gets no reply from the server."""
    began = time.monotonic()
    options = JetStreamOptions(url=url(server, user), request_timeout_s=300.0, reconnect_timeout_s=300.0)
    with pytest.raises(
        DeniedError, match=r"permissions violation for (publish|subscription) to .*lists all permissions"
    ):
        _use(options, user)
    assert time.monotonic() - began < 200


def _use(options: JetStreamOptions, source: str) -> None:
    """The actions of a tail: create a stream, write a flush, and store an oversize message."""
    with closing(JetStreamSink(options)) as sink:
        sink.open(source)
        sink.write(samples(source).flush(1))
    with NatsConnection(options, "test") as connection:
        bucket = large_bucket(source)
        connection.call(lambda client: client.jetstream().create_object_store(bucket))
        connection.call(lambda client: put_object(client, bucket, "n", b"x", 20.0))


@pytest.mark.server
def test_doctor_reports_each_denied_subject(server: NATSServer) -> None:
    problems = problems_of(JetStreamOptions(url=url(server, "nokv")), "nokv")
    assert len(problems) == sum(subject.startswith("$KV.") for subject in published_subjects("nokv"))
    assert all("$kv.cdc_nokv_" in each for each in problems)


@pytest.mark.server
def test_rows_for_one_consumer_need_a_permission_of_their_own(server: NATSServer) -> None:
    options = JetStreamOptions(url=url(server, "norows"))
    with closing(JetStreamSink(options)) as sink:
        sink.open("norows")
        sink.write(samples("norows").flush(1))
        with pytest.raises(ConfigError, match=r"denied a required permission: .*cdc_snapshot\.norows\..*docs/nats\.md"):
            sink.find_readers("norows")
        sink.watch()
    (problem,) = find_account_problems(options, options.stream_spec("norows"))
    assert not problem.is_error
    assert "binlogsync snapshot --consumer" in problem.text
    find_snapshot_readers(NatsOptions(url=url(server, "noobject")), "norows")
    (problem,) = find_account_problems(options, options.stream_spec("norows"))
    assert problem.is_error


@pytest.mark.server
def test_a_limit_of_one_stream_is_reported(server: NATSServer) -> None:
    options = JetStreamOptions(url=url(server, "small"))
    (problem,) = problems_of(options, "small")
    assert "has 0 of at most 1 streams: CDC_SMALL, KV_CDC_SMALL_schemas cannot be created" in problem
    with pytest.raises(SinkError, match=r"CDC_SMALL.*code 10027.*max_streams"):
        JetStreamSink(options).open("small")


@pytest.mark.server
def test_an_account_limits_the_consumers_of_each_stream(server: NATSServer) -> None:
    """The server counts per stream, so that two streams have more together."""
    options = JetStreamOptions(url=url(server, "few"))

    async def add(client: Client, stream: str, number: int) -> None:
        await client.jetstream().add_consumer(stream, ConsumerConfig(durable_name=f"d{number}"))

    with NatsConnection(options, "test") as connection:
        for source in ("few1", "few2"):
            with closing(JetStreamSink(options)) as sink:
                sink.open(source)
                sink.write(samples(source).flush(3))
            for number in range(4):
                connection.call(lambda client: add(client, stream_name(source), number))  # noqa: B023 - called at once
        assert read_stream_status(options, options.stream_spec("few1")).consumers == (4, 5)
        assert problems_of(options, "few1") == []
        connection.call(lambda client: add(client, stream_name("few1"), 4))
        with pytest.raises(nats.js.errors.APIError, match="maximum consumers limit"):
            connection.call(lambda client: add(client, stream_name("few1"), 5))


@pytest.mark.server
def test_an_account_that_requires_sizes(server: NATSServer) -> None:
    options = JetStreamOptions(url=url(server, "sized"))
    assert problems_of(options, "sized") == [
        "the account requires a size limit for each stream: set BINLOGSYNC_STREAM_MAX_BYTES"
    ]
    with pytest.raises(SinkError, match="BINLOGSYNC_STREAM_MAX_BYTES"):
        JetStreamSink(options).open("sized")
    sized = JetStreamOptions(url=options.url, max_bytes=100 << 20)
    with closing(JetStreamSink(sized)) as sink:
        sink.open("sized")
        sink.write(samples("sized").flush(2))
    assert problems_of(sized, "sized") == []


@pytest.mark.server
def test_an_nkey_seed_file(server: NATSServer, tmp_path: Path) -> None:
    seed = tmp_path / "user.nk"
    seed.write_text(KEY.seed + "\n")
    with closing(JetStreamSink(JetStreamOptions(url=server.url, nkey_seed_file=str(seed)))) as sink:
        sink.open("nkey")
        sink.write(samples("nkey").flush(1))
    seed.write_text(user_key().seed)
    assert "refuses the credentials" in _refused(NatsOptions(url=server.url, nkey_seed_file=str(seed)))
    seed.write_text("SUNOTASEED")
    text = _refused(NatsOptions(url=server.url, nkey_seed_file=str(seed)))
    assert "SUNOTASEED" not in text


@pytest.mark.server
def test_a_credentials_file_of_operator_account_and_user(tmp_path: Path) -> None:
    lines, credentials = operator_mode(tmp_path)
    with servers.nats(tmp_path / "store", options=lines) as server:
        with closing(JetStreamSink(JetStreamOptions(url=server.url, credentials_file=str(credentials)))) as sink:
            sink.open("jwt")
            sink.write(samples("jwt").flush(1))
        assert "refuses the credentials" in _refused(NatsOptions(url=server.url))
        credentials.write_text("nothing\n")
        assert "NATS at" in _refused(NatsOptions(url=server.url, credentials_file=str(credentials)))


def _refused(options: NatsOptions) -> str:
    with pytest.raises(SinkError) as caught, NatsConnection(options, "test"):
        pass
    return str(caught.value)


@pytest.mark.parametrize("name", ["credentials_file", "nkey_seed_file"])
def test_a_missing_credentials_file_is_reported(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} nowhere .*BINLOGSYNC_NATS_{name.upper()}"):
        NatsConnection(NatsOptions(**{name: "nowhere"}), "test").open()  # type: ignore[arg-type]
