"""The stream of a source: created if missing, otherwise checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StoreCompression, StreamConfig

from binlogsync.codec import subjects
from binlogsync.errors import SinkError

Compression = Literal["none", "s2"]

log = logging.getLogger(__name__)
_DUPLICATE_WINDOW_S = 120.0
_MOST_CONSUMERS = 100_000
"""The default of nats-server is 1,000; each client needs a durable for each table."""


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """Required configuration of a source's stream; replicas, age, size and compression apply only at its
    creation.
    """

    source: str
    replicas: int
    max_age_s: float
    max_bytes: int | None
    compression: Compression = "s2"

    def config(self) -> StreamConfig:
        """The configuration to create it with."""
        age = self.max_age_s
        return StreamConfig(
            name=subjects.stream_name(self.source),
            description=f"row changes of the source {self.source}, written by binlogsync",
            subjects=[subjects.all_subjects(self.source)],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            num_replicas=self.replicas,
            max_age=age,
            max_bytes=self.max_bytes if self.max_bytes is not None else -1,
            duplicate_window=min(_DUPLICATE_WINDOW_S, age) if age else _DUPLICATE_WINDOW_S,
            compression=StoreCompression(self.compression),
            allow_direct=True,
            allow_atomic=True,
            max_consumers=_MOST_CONSUMERS,
        )


async def ensure_stream(client: Client, shape: StreamSpec) -> int:
    """Create the stream, or check the existing one; returns its number of replicas.

    Raises SinkError with the settings that are wrong.
    """
    js, wanted = client.jetstream(), shape.config()
    assert wanted.name is not None
    try:
        info = await js.stream_info(wanted.name)
    except nats.js.errors.NotFoundError:
        # The server creates no stream with a limit above the one of its account.
        limit = (await js.account_info()).limits.max_consumers or 0
        await js.add_stream(wanted.evolve(max_consumers=limit) if 0 < limit < _MOST_CONSUMERS else wanted)
        log.info("stream %s created", wanted.name)
        return shape.replicas
    check_config(info.config, shape)
    return info.config.num_replicas or 1


def check_config(found: StreamConfig, shape: StreamSpec) -> None:
    """Raise SinkError with each setting of the stream that would cause a loss of changes."""
    wrong = _differences(found, shape)
    if wrong:
        raise SinkError(
            f"stream {subjects.stream_name(shape.source)} cannot store the changes of source {shape.source}: "
            + "; ".join(wrong)
        )


def _differences(found: StreamConfig, shape: StreamSpec) -> list[str]:
    wanted = shape.config()
    name = wanted.name
    recreate = f"it cannot be changed: recreate the stream after nats stream rm {name}, or choose another source name"
    edit = f"change it with: nats stream edit {name}"
    checks: list[tuple[str, object, object, str]] = [
        (
            "subjects",
            wanted.subjects if _has_subjects(found, shape.source) else found.subjects,
            wanted.subjects,
            f"{edit} --subjects '{subjects.all_subjects(shape.source)}'",
        ),
        ("storage", str(found.storage), "file", recreate),
        ("retention", str(found.retention), "limits", recreate),
        ("allow_atomic", bool(found.allow_atomic), True, f"{edit} --allow-batch"),
        ("allow_direct", bool(found.allow_direct), True, f"{edit} --allow-direct"),
        ("no_ack", bool(found.no_ack), False, f"{edit} --ack"),
        ("sealed", bool(found.sealed), False, recreate),
        ("mirror", found.mirror is not None, False, recreate),
        ("sources", bool(found.sources), False, edit),
        ("subject_transform", found.subject_transform is not None, False, edit),
        ("max_msgs_per_subject", _unlimited(found.max_msgs_per_subject), -1, f"{edit} --max-msgs-per-subject=-1"),
        ("max_msg_size", _unlimited(found.max_msg_size), -1, f"{edit} --max-msg-size=-1"),
    ]
    return [f"{what} is {got} and must be {must} ({how})" for what, got, must, how in checks if got != must]


def _has_subjects(found: StreamConfig, source: str) -> bool:
    """True also with the subjects of rows for one consumer, which the first snapshot for one adds."""
    return set(found.subjects or ()) in ({subjects.all_subjects(source)}, {*subjects.stream_subjects(source)})


def _unlimited(value: int | None) -> int:
    return value or -1
