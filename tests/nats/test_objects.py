"""Bodies larger than a message: stored and read in linear time, and readable without this library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import nats
import pyarrow as pa
import pytest
from nats.aio.client import Client

from binlogsync.codec.envelope import LARGE_OBJECT, LARGE_OBJECT_SIZE
from binlogsync.errors import WireError
from binlogsync.nats import unusual_messages
from binlogsync.nats.message_block import MessageBlock, RawMessage
from binlogsync.nats.objects import chunk_subject, get_object, meta_subject, put_object
from binlogsync.nats.unusual_messages import count_decodable
from binlogsync.servers import NATSServer
from tests.nats.test_stream import TABLES, FilledStream
from tests.nats_commands import PATIENCE_S, ask
from tests.samples import SampleTransaction

_NUMBERS = itertools.count(1)
_S = 60.0


def run(server: NATSServer, work: Callable[[Client, str], Awaitable[Any]]) -> Any:
    """Run the work with a new connection and a new object store bucket."""

    async def connected() -> Any:
        client = await nats.connect(server.url, connect_timeout=PATIENCE_S)
        try:
            bucket = f"objects{next(_NUMBERS)}"
            await client.jetstream(timeout=PATIENCE_S).create_object_store(bucket)
            return await work(client, bucket)
        finally:
            await client.close()

    return asyncio.run(connected())


@pytest.mark.parametrize("size", [0, 1, 512 << 10, (512 << 10) + 1, 64 << 20])
def test_what_is_put_is_got(nats_server: NATSServer, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def work(client: Client, bucket: str) -> bytes | None:
        await put_object(client, bucket, "a name", memoryview(body), _S)
        return await get_object(client, bucket, "a name", _S)

    assert run(nats_server, work) == body


def test_the_form_is_that_of_other_clients(nats_server: NATSServer) -> None:
    body = b"0123456789" * 200_000

    async def work(client: Client, bucket: str) -> tuple[Any, Any]:
        store = await client.jetstream(timeout=PATIENCE_S).object_store(bucket)
        await put_object(client, bucket, "ours", body, _S)
        await store.put("theirs", body)
        return (await store.get("ours")).data, await get_object(client, bucket, "theirs", _S)

    assert run(nats_server, work) == (body, body)


def test_a_second_object_of_the_name_takes_the_place_of_the_first(nats_server: NATSServer) -> None:
    async def work(client: Client, bucket: str) -> tuple[Any, int]:
        for body in (b"first" * 300_000, b"second" * 300_000):
            await put_object(client, bucket, "n", body, _S)
        info = await client.jetstream(timeout=PATIENCE_S).stream_info(f"OBJ_{bucket}")
        return await get_object(client, bucket, "n", _S), info.state.messages

    assert run(nats_server, work) == (b"second" * 300_000, 5)


def test_what_is_not_there_is_none(nats_server: NATSServer) -> None:
    async def work(client: Client, bucket: str) -> tuple[Any, Any, Any]:
        await put_object(client, bucket, "gone", b"x", _S)
        await (await client.jetstream(timeout=PATIENCE_S).object_store(bucket)).delete("gone")
        names = (("never", bucket), ("gone", bucket), ("a", "no_such_bucket"))
        a, b, c = [await get_object(client, other, name, _S) for name, other in names]
        return a, b, c

    assert run(nats_server, work) == (None, None, None)


DOCUMENT = {"nuid": "u", "size": 4, "chunks": 2, "digest": "SHA-256=" + base64.urlsafe_b64encode(bytes(32)).decode()}
DAMAGED: dict[str, bytes] = {
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "a list": b"[]",
    "empty": b"",
    "nested": b"[" * 100_000,
    "a key is missing": b'{"nuid": "u"}',
    "digest": json.dumps(DOCUMENT).encode(),
    "no base64": json.dumps({**DOCUMENT, "digest": "SHA-256=a"}).encode(),
    "size": json.dumps({**DOCUMENT, "size": 5}).encode(),
    "huge": json.dumps({**DOCUMENT, "size": 1 << 60, "chunks": 1 << 50}).encode(),
    "negative": json.dumps({**DOCUMENT, "size": -1, "chunks": -1}).encode(),
    "text": json.dumps({**DOCUMENT, "chunks": "2"}).encode(),
    "other subject": json.dumps({**DOCUMENT, "nuid": "*.>"}).encode(),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_an_error_that_names_the_object(nats_server: NATSServer, name: str) -> None:
    async def work(client: Client, bucket: str) -> bytes | None:
        js = client.jetstream(timeout=PATIENCE_S)
        for chunk in (b"ab", b"cd"):
            await js.publish(chunk_subject(bucket, "u"), chunk)
        await js.publish(meta_subject(bucket, "n"), DAMAGED[name])
        return await get_object(client, bucket, "n", _S)

    with pytest.raises(WireError, match=r"object n of object store bucket objects\d+"):
        run(nats_server, work)


# A message whose body is an object


def large_source(server: NATSServer, count: int) -> tuple[FilledStream, list[dict[str, Any]]]:
    """A stream with `count` rows that are too large for a message, and their images."""
    filled = FilledStream(server)
    return filled, write_large(filled, count)


def write_large(filled: FilledStream, count: int) -> list[dict[str, Any]]:
    flush = filled.samples.flush([SampleTransaction((0,) * count)])
    batch = flush.batches[0]
    images = [{"id": number, "c_varchar": "ä" * 800_000} for number in range(count)]
    rows = [{**row, "after": image} for row, image in zip(batch.data.to_pylist(), images, strict=True)]
    data = pa.RecordBatch.from_pylist(rows, schema=batch.data.schema)
    filled.sink.write(replace(flush, batches=(replace(batch, data=data),)))
    return images


def test_a_reader_without_this_library_follows_what_the_readme_documents(nats_server: NATSServer) -> None:
    filled, images = large_source(nats_server, 1)
    filled.sink.close()

    async def read() -> bytes:
        client = await nats.connect(nats_server.url, connect_timeout=PATIENCE_S)
        js = client.jetstream(timeout=PATIENCE_S)
        message = await js.get_last_msg(f"CDC_{filled.source.upper()}", f"cdc.{filled.source}.shop.small")
        name = (message.headers or {})["Cdc-Object"]
        bucket = f"CDC_{filled.source.upper()}_large"
        encoded = base64.urlsafe_b64encode(name.encode()).decode()
        document = json.loads((await js.get_last_msg(f"OBJ_{bucket}", f"$O.{bucket}.M.{encoded}")).data or b"")
        chunks = await js.subscribe(f"$O.{bucket}.C.{document['nuid']}", ordered_consumer=True)
        body = b"".join([(await chunks.next_msg(60)).data for _ in range(document["chunks"])])
        await client.close()
        assert document["size"] == len(body) == int((message.headers or {})["Cdc-Object-Size"])
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode()
        assert document["digest"] == f"SHA-256={digest}"
        assert name == hashlib.sha256(body).hexdigest()
        return body

    assert json.loads(asyncio.run(read()))["after"] == images[0]


def test_a_deleted_bucket_is_made_again(nats_server: NATSServer) -> None:
    filled, _ = large_source(nats_server, 1)
    name = filled.source.upper()
    for _ in range(2):
        ask(nats_server.url, lambda js: js.purge_stream(f"CDC_{name}"))
        ask(nats_server.url, lambda js: js.delete_object_store(f"CDC_{name}_large"))
        images = write_large(filled, 1)
        with filled.reader() as reader:
            reader.ensure_durable("large", TABLES[0].database, TABLES[0].table, 1)
            (batch,) = reader.fetch("large", 100, _S)
            assert batch.batch.data.column("after").to_pylist() == images
    filled.sink.close()


def test_a_missing_object_is_named(nats_server: NATSServer) -> None:
    filled, _ = large_source(nats_server, 1)
    filled.sink.close()
    ask(nats_server.url, lambda js: js.delete_object_store(f"CDC_{filled.source.upper()}_large"))
    with filled.reader() as reader:
        reader.ensure_durable("large", TABLES[0].database, TABLES[0].table, 1)
        with pytest.raises(WireError, match=r"has no object [0-9a-f]{64} with the body"):
            reader.fetch("large", 100, _S)


def test_large_bodies_are_handed_out_a_few_at_a_time(nats_server: NATSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unusual_messages, "_LARGE_BYTES", 3_500_000)
    filled, images = large_source(nats_server, 5)
    filled.sink.close()
    found: list[list[dict[str, Any]]] = []
    with filled.reader() as reader:
        reader.ensure_durable("large", TABLES[0].database, TABLES[0].table, 1)
        while not reader.has_all("large"):
            batches = reader.fetch("large", 100, _S)
            found.append([row["after"] for item in batches for row in item.batch.data.to_pylist()])
            reader.ack(batches[-1])
    assert [len(each) for each in found] == [2, 2, 1]
    assert [image for each in found for image in each] == images


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([], 0),
        (["0"] * 9, 9),
        ([None] * 9, 9),
        ([None, "60000000", None, "60000000"], 3),
        (["90000000", None], 2),
        (["90000000", "1"], 1),
        (["", ""], 1),
        (["-5", "9" * 5000, None], 1),
    ],
)
def test_how_many_are_decoded_at_once(sizes: list[str | None], count: int) -> None:
    def headers(size: str | None) -> dict[str, str]:
        return {} if size is None else {LARGE_OBJECT: "n", LARGE_OBJECT_SIZE: size}

    blocks = [MessageBlock.of(RawMessage("a", "", headers(size), b"")) for size in sizes]
    assert count_decodable(MessageBlock.join(blocks)) == count
