"""Durable consumers as a reader uses them: their configuration and state, and requests to list and delete them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy, StreamInfo

from binlogsync.nats.frame_kernel import DELIVERED, DELIVERY, REPLY, SEQUENCE
from binlogsync.nats.message_block import MessageBlock
from binlogsync.nats.pull import PullSubscription
from binlogsync.nats.stream_update import request_api

if TYPE_CHECKING:
    from binlogsync.nats.messages import StreamBatch

log = logging.getLogger(__name__)
_ACK_WAIT_S = 3600.0
UNUSED_S = 14 * 86400.0
"""The server deletes durables unused for so long; those of dropped tables and old clients would reach the limit."""
ANNOUNCED = "binlogsync_snapshot"
"""Key of the stream's metadata: the first tokens of the subjects of rows for one consumer that are published now."""


@dataclass(frozen=True, slots=True)
class DurableState:
    """State of a durable.

    Attributes:
        num_pending: number of messages of its table that are not delivered yet.
        num_ack_pending: number of messages delivered but not acked.
        last_delivered_stream_seq: sequence of the last delivered message; before the first, the start minus one.
    """

    num_pending: int
    num_ack_pending: int
    last_delivered_stream_seq: int

    @classmethod
    def of(cls, info: ConsumerInfo) -> DurableState:
        """From the consumer info that the server returns."""
        delivered = info.delivered.stream_seq if info.delivered else 0
        if info.delivered is None or not info.delivered.consumer_seq:
            delivered = (info.config.opt_start_seq or 1) - 1
        return cls(info.num_pending or 0, info.num_ack_pending or 0, delivered)


@dataclass(slots=True)
class DurableConsumer:
    """A durable of a reader: `given` is the sequence of the last message returned, `kept` are received messages after
    it, `ahead` is what was decoded and not returned, `owed` is the reply subject that acks the changes returned but not
    acked yet, `stream_created_at` is when the stream was created in which the server's durable was found or created
    last, `notify` the listener of its messages, `received_at` when `kept` or `ahead` was received (time.monotonic). It
    reads `subject`, and as long as there are rows for its client alone, also `own_subject` (`reads_own`).
    """

    name: str
    subject: str
    given: int
    inactive_s: float = UNUSED_S
    own_subject: str | None = None
    reads_own: bool = False
    subscription: PullSubscription | None = None
    deliveries: int = 0
    is_broken: bool = False
    kept: MessageBlock = field(default_factory=MessageBlock.empty)
    ahead: list[StreamBatch] = field(default_factory=list)
    owed: str | None = None
    stream_created_at: str | None = None
    notify: Callable[[], None] | None = None
    received_at: float = 0.0

    @property
    def filters(self) -> list[str]:
        """The subjects that it reads."""
        own = [self.own_subject] if self.own_subject is not None and self.reads_own else []
        return [self.subject, *own]

    def config(self) -> ConsumerConfig:
        """The configuration to create it again, starting after the last message returned.

        The server keeps its state in memory: in a file, each write contains all unacked messages, which is a third of
        the processor time that nats-server spends on a large backlog. A durable lost in a restart of the server is
        created again from the stored progress.
        """
        filters = self.filters
        return ConsumerConfig(
            durable_name=self.name,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.given + 1,
            ack_policy=AckPolicy.ALL,
            ack_wait=_ACK_WAIT_S,
            max_ack_pending=-1,
            mem_storage=True,
            filter_subject=filters[0] if len(filters) == 1 else None,
            filter_subjects=filters if len(filters) > 1 else None,
            inactive_threshold=self.inactive_s,
        )

    def accept(self, received: MessageBlock) -> MessageBlock:
        """The new ones of the messages, up to a delivery that is missing: the durable is then broken."""
        block = delivery_numbers(received)
        if not len(block):
            return block
        numbers: list[int] = block.frames[:, DELIVERY].tolist()
        first = self.deliveries + 1 if self.deliveries else numbers[0]
        if numbers != list(range(first, first + len(numbers))):
            at = next(at for at, number in enumerate(numbers) if number != first + at)
            text = "durable %s: delivery %d was expected, and %d has arrived; recreating it"
            log.warning(text, self.name, first + at, numbers[at])
            self.is_broken = True
            block = block.slice(0, at)
        self.deliveries = first + len(block) - 1
        return block.select(block.frames[:, SEQUENCE] > self.given)

    async def look(self, js: JetStreamContext, stream: str) -> bool:
        """Look at the stream after the durable was found or created; True if its filters have to change.

        It needs both if rows for its client are announced (snapshot_readers.py), or are in the stream and not read.
        """
        own, before = self.own_subject, self.reads_own
        info = await js.stream_info(stream, own)
        self.stream_created_at = creation_time(info)
        if own is None:
            return False
        announced = (info.config.metadata or {}).get(ANNOUNCED)
        self.reads_own = announced is not None and own.startswith(f"{announced}.")
        if not self.reads_own and info.state.subjects:
            self.reads_own = ((await js.get_last_msg(stream, own)).seq or 0) > self.given
        if self.reads_own and not any(own.startswith(each[:-1]) for each in info.config.subjects or ()):
            log.warning(
                "stream %s no longer has the subject %s: rows of snapshots for this consumer are not read; request the "
                "snapshot again",
                stream,
                own,
            )
            self.reads_own = False
        return self.reads_own != before

    async def drop_subscription(self) -> None:
        """Unsubscribe; never raises for a lost connection."""
        subscription, self.subscription = self.subscription, None
        if subscription is None:
            return
        try:
            await subscription.close()
        except (nats.errors.Error, ValueError) as error:
            log.debug("durable %s: unsubscribing: %r", self.name, error)

    def note_filters(self, info: ConsumerInfo) -> set[str]:
        """Set `reads_own` as the server's durable has it; returns the subjects that it reads."""
        filters = all_filters(info.config.as_dict())
        self.reads_own = self.own_subject in filters
        return filters

    def is_positioned(self, info: ConsumerInfo) -> bool:
        """True when the server's durable has no unacked message and will deliver the next message required.

        Notes its filters. False for a durable of an earlier version, whose state is in a file.
        """
        if (
            self.note_filters(info) != set(self.filters)
            or info.config.ack_policy != AckPolicy.ALL
            or not info.config.mem_storage
            or info.num_ack_pending
        ):
            return False
        if info.delivered is not None and info.delivered.consumer_seq:
            return info.delivered.stream_seq == self.given
        return info.config.opt_start_seq == self.given + 1


def creation_time(info: StreamInfo) -> str | None:
    """When the server created the stream, RFC 3339 in microseconds; None if its reply does not contain it."""
    return None if info.created is None else info.created.isoformat(timespec="microseconds")


def parse_reply(reply: str) -> tuple[int, int]:
    """(stream sequence, consumer sequence) in the reply subject of a delivered message."""
    tokens = reply.split(".")
    first = 5 if len(tokens) == 9 else 7
    return int(tokens[first]), int(tokens[first + 1])


def delivery_numbers(block: MessageBlock) -> MessageBlock:
    """The messages with stream sequence and consumer sequence, also of those for which no kernel has read them."""
    unread = block.rows_without(DELIVERED)
    if not unread:
        return block
    frames = block.frames.copy()
    for row in unread:
        frames[row, [SEQUENCE, DELIVERY]] = parse_reply(block.text_of(row, REPLY))
    return MessageBlock(block.text, frames)


async def consumer_info(js: JetStreamContext, stream: str, durable: str) -> ConsumerInfo | None:
    """The consumer info of the server; None when the durable does not exist."""
    try:
        info: ConsumerInfo = await js.consumer_info(stream, durable)
    except nats.js.errors.NotFoundError:
        return None
    return info


async def delete_consumer(js: JetStreamContext, stream: str, durable: str) -> None:
    """Delete the durable, if it exists."""
    try:
        await js.delete_consumer(stream, durable)
    except nats.js.errors.NotFoundError:
        return


async def pending_counts(client: Client, stream: str) -> dict[str, int]:
    """Durables of the stream -> number of messages not delivered yet or not acked."""
    found = await _list_consumers(client, stream)
    return {name: one["num_pending"] + one["num_ack_pending"] for name, one in found.items()}


async def list_configs(client: Client, stream: str) -> dict[str, dict[str, Any]]:
    """Durables of the stream -> configuration, as the server has it."""
    return {name: one["config"] for name, one in (await _list_consumers(client, stream)).items()}


def all_filters(config: Mapping[str, Any]) -> set[str]:
    """The filter subjects in the configuration of a durable, without those with wildcards."""
    several = [config.get("filter_subject"), *(config.get("filter_subjects") or ())]
    return {subject for subject in several if subject and not {"*", ">"} & set(subject.split("."))}


async def _list_consumers(client: Client, stream: str) -> dict[str, dict[str, Any]]:
    """The server's info of each consumer, by name."""
    found: dict[str, dict[str, Any]] = {}
    offset = 0
    while True:
        answer = await request_api(client, f"CONSUMER.LIST.{stream}", {"offset": offset})
        page = answer.get("consumers") or []
        found.update({one["name"]: one for one in page})
        # The offset counts listed entries, because a consumer created or deleted between two pages shifts the others.
        offset += len(page)
        if not page or offset >= answer["total"]:
            return found
