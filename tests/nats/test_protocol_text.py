"""Messages as protocol text, parsed by the rules of the protocol."""

from __future__ import annotations

import re

import numpy as np
import pytest

from binlogsync.nats.protocol_text import MessageBatch, SubjectAndHeaders, encode_batch, encode_header

_LINE = re.compile(rb"HPUB (\S+) (?:(?P<reply>\S+) )?(\d+) (\d+)\r\n")


def messages(text: bytes) -> list[tuple[str, dict[str, str], bytes]]:
    """(subject, headers, payload) of each message."""
    found, at = [], 0
    while at < len(text):
        line = _LINE.match(text, at)
        assert line is not None
        header, total = int(line[3]), int(line[4])
        lines = text[line.end() : line.end() + header].decode().split("\r\n")
        assert (lines[0], lines[-2:]) == ("NATS/1.0", ["", ""])
        at = line.end() + total
        headers = dict(entry.split(": ", 1) for entry in lines[1:-2])
        found.append((line[1].decode(), headers, text[line.end() + header : at]))
        assert text[at : at + 2] == b"\r\n"
        at += 2
    return found


@pytest.mark.parametrize("sizes", [[0], [5, 0, 7], [1, 10, 100, 1000, 100_000], [3] * 1000])
def test_what_is_framed_is_there(sizes: list[int]) -> None:
    heads = [
        SubjectAndHeaders("cdc.main.a.b", {"One": "1", "Two": "zwei"}),
        SubjectAndHeaders("cdc.main.a.Gr%C3%BCn", {}),
    ]
    payloads = [bytes((i + k) % 256 for k in range(size)) for i, size in enumerate(sizes)]
    memory = np.frombuffer(b"".join(payloads) + b"\0", np.uint8)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    which = np.arange(len(sizes)) % 2
    batch = MessageBatch(heads, which, memory.ctypes.data + starts, np.array(sizes))
    found = messages(bytes(encode_batch(batch, "a" * 32, {"Nats-Expected-Last-Sequence": "123456"})))
    assert [payload for _, _, payload in found] == payloads
    for number, (subject, headers, _) in enumerate(found, 1):
        head = heads[(number - 1) % 2]
        fence = {"Nats-Expected-Last-Sequence": "123456"} if number == 1 else {}
        assert subject == head.subject
        assert headers == {"Nats-Batch-Id": "a" * 32, "Nats-Batch-Sequence": str(number), **fence, **head.headers}


def test_a_message_by_itself() -> None:
    head = SubjectAndHeaders("cdc.main.a.b", {"One": "1"})
    text = encode_header(head, {"Nats-Expected-Last-Sequence": "7"}, "_INBOX.x.1", 5) + b"12345\r\n"
    assert messages(text) == [("cdc.main.a.b", {"One": "1", "Nats-Expected-Last-Sequence": "7"}, b"12345")]
    line = _LINE.match(text)
    assert line is not None
    assert line["reply"] == b"_INBOX.x.1"
    with pytest.raises(ValueError, match="line end"):
        encode_header(head, {"Two": "2\r\n"}, "_INBOX.x.1", 5)


def test_a_header_cannot_end_early() -> None:
    none = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="line end"):
        encode_batch(MessageBatch([SubjectAndHeaders("a", {"One": "1\r\nTwo: 2"})], none, none, none), "a" * 32, {})
