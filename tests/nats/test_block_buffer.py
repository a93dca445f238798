"""The queue of received messages: order, complete requests, and two threads."""

from __future__ import annotations

import threading

from binlogsync.nats.block_buffer import BlockBuffer
from binlogsync.nats.message_block import MessageBlock, RawMessage


def _block(*bodies: str) -> MessageBlock:
    return MessageBlock.join([MessageBlock.of(RawMessage("s", "", {}, body.encode())) for body in bodies])


def _bodies(block: MessageBlock) -> list[str]:
    return [body.decode() for body in block.bodies()]


def test_messages_of_complete_requests_come_first() -> None:
    buffer = BlockBuffer()
    assert buffer.append(_block("1", "2"))
    buffer.complete()
    assert not buffer.append(_block("3", "4"))
    assert buffer.has_complete
    assert _bodies(buffer.take(1)) == ["1"]
    assert _bodies(buffer.take(9)) == ["2"]
    assert (buffer.has_complete, buffer.count, buffer.size) == (False, 2, 2 * _block("3").size)
    assert _bodies(buffer.take(9)) == ["3", "4"]
    assert _bodies(buffer.take(9)) == []
    assert (buffer.count, buffer.size) == (0, 0)
    assert buffer.append(_block("5"))


def test_two_threads_lose_nothing_and_keep_the_order() -> None:
    buffer, taken, firsts = BlockBuffer(), list[str](), list[bool]()
    wanted = [str(number) for number in range(2000)]

    def append() -> None:
        for start in range(0, len(wanted), 4):
            firsts.append(buffer.append(_block(*wanted[start : start + 4])))
            if start % 3 == 0:
                buffer.complete()

    thread = threading.Thread(target=append)
    thread.start()
    while thread.is_alive() or buffer.count:
        found = _bodies(buffer.take(3))
        taken += found
    thread.join()
    assert taken == wanted
    assert firsts[0]
    assert _bodies(buffer.take(1)) == []
