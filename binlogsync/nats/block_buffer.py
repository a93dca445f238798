"""Messages that were received for a durable and not taken yet."""

from __future__ import annotations

import threading
from collections import deque

from binlogsync.nats.message_block import MessageBlock

_JOINED_BYTES = 256 << 10
"""Larger blocks are not copied to process them together."""


class BlockBuffer:
    """A queue of messages: one thread appends, any thread takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: deque[MessageBlock] = deque()
        self._complete = 0  # number of messages that belong to complete requests
        self.count = 0
        self.size = 0
        """Bytes of the messages."""

    def append(self, block: MessageBlock) -> bool:
        """Add messages; True if there were none before."""
        with self._lock:
            is_first = not self.count
            self._blocks.append(block)
            self.count += len(block)
            self.size += block.size
            return is_first

    def complete(self) -> None:
        """The messages up to here are all of a request."""
        with self._lock:
            self._complete = self.count

    @property
    def has_complete(self) -> bool:
        """True if messages of a complete request are left."""
        return self._complete > 0

    def take(self, most: int) -> MessageBlock:
        """Remove the first messages, those of complete requests if there are any.

        Returns `most` messages, or fewer: those that share memory, and few others.
        """
        with self._lock:
            count = min(most, self._complete or self.count)
            blocks: list[MessageBlock] = []
            size = 0
            while count > 0:
                block = self._blocks[0]
                if size > _JOINED_BYTES and block.text is not blocks[-1].text:
                    break
                self._blocks.popleft()
                size += block.size
                if len(block) > count:
                    self._blocks.appendleft(block.slice(count, len(block)))
                    block = block.slice(0, count)
                count -= len(block)
                blocks.append(block)
            found = MessageBlock.join(blocks)
            self._complete = max(0, self._complete - len(found))
            self.count -= len(found)
            self.size -= found.size
            return found
