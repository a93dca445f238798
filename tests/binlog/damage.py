"""Damaged dumps, decoded: `python -m tests.binlog.damage --dumps events --count 100000 --seed 1`.

Each case takes a golden dump, with or without checksums, and truncates it, flips bits, overwrites or removes bytes, or
changes one event. It passes if the reader raises DecodeError with a file and a position, reports the end of the dump,
or needs more bytes, and if the delivered changes are valid: with checksums, they equal those of the undamaged dump.

The cases run in a separate process, so that a crash of a kernel fails the test and does not end it. A case that
exceeds `--case-timeout` ends the process with a traceback. Each case is also decoded with its images rendered directly.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from binlogsync.codec.envelope import EnvelopeContext, render
from tests.binlog.captured import EVENTS, NAMES, TYPES, CapturedDump, load, summary
from tests.binlog.damage_inside import inside
from tests.binlog.dump import DecodedDump, DumpRecording
from tests.binlog.rendered_images import compare_rendered

_FORMAT = 15


def packets(raw: bytes) -> list[bytes]:
    """The payloads of a dump's packets."""
    found, at = [], 0
    while at + 4 <= len(raw):
        size = int.from_bytes(raw[at : at + 3], "little")
        found.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return found


def dump_of(payloads: list[bytes]) -> bytes:
    """Packets with these payloads."""
    parts = (len(p).to_bytes(3, "little") + bytes([i & 0xFF]) + p for i, p in enumerate(payloads))
    return b"".join(parts)


def signed(event: bytes) -> bytes:
    """The event with a valid checksum."""
    return event[:-4] + zlib.crc32(event[:-4]).to_bytes(4, "little")


def without_checksums(raw: bytes) -> bytes:
    """The same dump as a server with binlog_checksum=NONE would send it."""
    changed = []
    for payload in packets(raw):
        event = payload[1:]
        if payload[:1] != b"\0":
            changed.append(payload)
        elif event[4] == _FORMAT:
            changed.append(b"\0" + signed(event[:-5] + b"\0" + event[-4:]))
        else:
            size = (len(event) - 4).to_bytes(4, "little")
            changed.append(b"\0" + event[:9] + size + event[13:-4])
    return dump_of(changed)


Damage = Callable[[bytes, random.Random], bytes]


def _truncate(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))]


def _flip(raw: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 5, 30))):
        damaged[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _overwrite(raw: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(chance.choice((1, 3))):
        at, size = chance.randrange(len(raw)), chance.choice((1, 2, 4, 50))
        fill = chance.choice((b"\0", b"\xff", b"\xfe", b"\x7f"))
        damaged[at : at + size] = chance.choice((chance.randbytes(size), fill * size))
    return bytes(damaged[: len(raw)])


def _remove(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + raw[at + chance.choice((1, 4, 100)) :]


def _noise(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))] + chance.randbytes(chance.randrange(1, 400))


def _one_event(raw: bytes, chance: random.Random) -> bytes:
    """Damage inside one event, whose packet and length remain valid."""
    payloads = packets(raw)
    i = chance.randrange(len(payloads))
    event = bytearray(payloads[i])
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(20, len(event)) if len(event) > 20 else 0
        event[at] = chance.choice((event[at] ^ 1 << chance.randrange(8), chance.randrange(256), 0, 255))
    payloads[i] = bytes(event)
    return dump_of(payloads)


def _resized_event(raw: bytes, chance: random.Random) -> bytes:
    """Remove bytes from one event, or insert some, and adjust its packet and length."""
    payloads = packets(raw)
    i = chance.randrange(len(payloads))
    event = payloads[i]
    at, size = chance.randrange(min(20, len(event)), len(event) + 1), chance.choice((1, 1, 2, 8, 200))
    event = (
        event[:at] + event[at + size :] if chance.random() < 0.6 else event[:at] + chance.randbytes(size) + event[at:]
    )
    if len(event) > 13 and event[:1] == b"\0":
        event = event[:10] + (len(event) - 1).to_bytes(4, "little") + event[14:]
    payloads[i] = event
    return dump_of(payloads)


def _shuffled(raw: bytes, chance: random.Random) -> bytes:
    """Remove, repeat or reorder whole events."""
    payloads = packets(raw)
    for _ in range(chance.choice((1, 1, 3))):
        i = chance.randrange(len(payloads))
        payload = payloads.pop(i)
        for _ in range(chance.choice((0, 1, 2))):
            payloads.insert(chance.randrange(len(payloads) + 1), payload)
    return dump_of(payloads)


IN_BYTES: tuple[Damage, ...] = (_truncate, _flip, _overwrite, _remove, _noise, _one_event, _resized_event)
DAMAGES: tuple[Damage, ...] = (*IN_BYTES, _shuffled)


def _inside(raw: bytes, chance: random.Random) -> bytes:
    """Damage compressed data before compression, so that it decompresses without an error."""
    return dump_of(inside(packets(raw), chance))


def outcome(done: DecodedDump) -> str:
    """How reading ended; raises AssertionError for an error without a position."""
    if done.error is not None:
        assert done.error.pos >= 0, "an error without a position"
        assert done.error.file or not done.ranges, f"an error that names no file: {done.error}"
        return "error"
    if done.reader.ended:
        return "ended"
    return "server error" if done.reader.server_error is not None else "needs more"


def check(done: DecodedDump, golden: CapturedDump, *, exact: bool) -> str:
    """Check the result of one case; raises AssertionError."""
    found = outcome(done)
    for decoded_range in done.ranges:
        for batch in decoded_range.batches:
            batch.data.validate(full=True)
            render(batch, EnvelopeContext("damage", 0))
    got = [summary(change) for change in done.changes]
    if exact:
        assert got == golden.expected[: len(got)], "a wrong row although there is a checksum"
    return found


def run_case(seed: int, goldens: list[tuple[CapturedDump, bool]], damages: tuple[Damage, ...] = DAMAGES) -> str:
    """Damage one dump and decode it."""
    chance = random.Random(seed)
    golden, checksums = chance.choice(goldens)
    # Missing or reordered events have valid checksums, so the changes of such a dump may differ.
    damage = chance.choice(IN_BYTES if checksums else damages)
    raw = damage(golden.recording.raw, chance)
    recording = DumpRecording(raw, golden.recording.start, golden.recording.options)
    cuts = sorted(chance.randrange(len(raw) + 1) for _ in range(chance.choice((0, 0, 1, 5, 100))))
    compare_rendered(recording, cuts)
    return check(recording.decoded(cuts), golden, exact=checksums)


@dataclass(frozen=True, slots=True)
class DamageFamily:
    """Dumps, and the kinds of damage for those without checksums."""

    names: tuple[str, ...]
    damages: tuple[Damage, ...]

    def run(self, seed: int) -> str:
        """Run one case."""
        return run_case(seed, load_all(self.names), self.damages)


FAMILIES = {
    "golden": DamageFamily(NAMES, DAMAGES),
    "events": DamageFamily(EVENTS, (*DAMAGES, _inside, _inside, _inside, _inside)),
    "types": DamageFamily(TYPES, DAMAGES),
}


@cache
def load_all(names: tuple[str, ...] = NAMES) -> list[tuple[CapturedDump, bool]]:
    """Load golden dumps, with and without checksums."""
    found = []
    for name in names:
        golden = load(name)
        plain = replace(golden, recording=replace(golden.recording, raw=without_checksums(golden.recording.raw)))
        found += [(golden, True), (plain, False), (plain, False)]
    return found


def main() -> None:
    """Run the cases seed..seed+count-1 of each family; prints their number, how they ended, and the failures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dumps", choices=FAMILIES, nargs="*", default=["golden"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case-timeout", type=float, default=60.0)
    arguments = parser.parse_args()
    faulthandler.enable()
    ends: Counter[str] = Counter()
    finds: dict[str, str] = {}
    cases = list(product(arguments.dumps, range(arguments.seed, arguments.seed + arguments.count)))
    for dumps, seed in cases:
        faulthandler.dump_traceback_later(arguments.case_timeout, exit=True)
        try:
            ends[FAMILIES[dumps].run(seed)] += 1
        except Exception as error:  # noqa: BLE001 - any other exception is a failure of the decoder
            finds[f"{dumps} {seed}"] = traceback.format_exc()[-1500:]
            print(f"{dumps}, seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
    print(json.dumps({"executions": len(cases), "finds": finds, **ends}))  # noqa: T201
    sys.exit(bool(finds))


if __name__ == "__main__":
    main()
