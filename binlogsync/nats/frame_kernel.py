"""Finds the messages of a subscription in protocol text of nats-server, in one kernel pass.

It recognises complete MSG and HMSG frames in the form in which nats-server writes them, and stops at anything else. A
message is *delivered* when its reply subject is that of a JetStream consumer, and *plain* if besides a tail wrote it,
and it has changes as its body: such messages are processed without Python code for each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from binlogsync.binlog.compiling import inner, kernel
from binlogsync.binlog.kernel_types import boolean, int64, intp, uint64
from binlogsync.binlog.memory import address, load_i64, load_u8, load_u64, lowest_bit, same, store_i64
from binlogsync.codec.envelope import CHECKPOINT, CONTENT_TYPE, LARGE_OBJECT, SCHEMA, SCHEMA_CHANGE
from binlogsync.codec.tail_messages import BATCH_ID

# Numbers of a frame: offsets in the text (first and last plus one, except HEADERS, which end at BODY), the sequence in
# the stream and the number of the delivery (0 if not delivered), and flags.
FRAME, FRAME_END, SUBJECT, SUBJECT_END, REPLY, REPLY_END, HEADERS, BODY, BODY_END = range(9)
SEQUENCE, DELIVERY, CONTENT, CONTENT_END, FINGERPRINT, FINGERPRINT_END, FLAGS = range(9, 16)
FIELDS = 16
DELIVERED, PLAIN, NEW = 1, 2, 4
"""Flags; NEW: content type or fingerprint differ from those of the frame before, or there is none before."""

LONGEST_LINE, LARGEST_MESSAGE, SIZE_DIGITS = 1 << 20, 1 << 27, 10
"""Above anything that a nats-server sends: its messages have at most 64 MB."""
_NUMBER_DIGITS = 18
_NAMES = (CONTENT_TYPE, SCHEMA, CHECKPOINT, BATCH_ID, SCHEMA_CHANGE, LARGE_OBJECT)
_CONTENT, _SCHEMA, _CHECKPOINT, _BATCH, _STATEMENT, _OBJECT = range(6)
_OTHER = 6
_WIDTH = 32
WORDS = np.zeros((9, _WIDTH), np.uint8)
"""The texts that the kernel looks for, each with its length in the last byte."""
for _row, _text in enumerate((*(f"{name}:" for name in _NAMES), '"sequence":', "NATS/1.0\r\n", "$JS.ACK.")):
    WORDS[_row, : len(_text)] = np.frombuffer(_text.encode(), np.uint8)
    WORDS[_row, -1] = len(_text)
_SEQUENCE_MEMBER, _FIRST_LINE, _ACK = range(6, 9)
_LOW = uint64(0x0101010101010101)
_HIGH = uint64(0x8080808080808080)
_RETURNS, _BLANKS = _LOW * uint64(13), _LOW * uint64(32)
Numbers = npt.NDArray[np.int64]


@inner
def _begins(words: intp, number: int64, at: intp, stop: intp) -> boolean:
    """Whether the text at `at` begins with that word."""
    word = words + _WIDTH * number
    size = int64(load_u8(word + _WIDTH - 1))
    return at + size <= stop and same(at, word, size)


@inner
def _word_size(words: intp, number: int64) -> int64:
    return int64(load_u8(words + _WIDTH * number + _WIDTH - 1))


@inner(apart=True)
def _line_end(at: intp, stop: intp) -> intp:
    """The address of the next CR LF, or -1."""
    while at + 8 <= stop:
        word = load_u64(at) ^ _RETURNS
        found = (word - _LOW) & ~word & _HIGH
        if found == 0:
            at += 8
            continue
        at += intp(lowest_bit(found) >> uint64(3))
        if at + 1 < stop and load_u8(at + 1) == 10:
            return at
        at += 1
    while at + 1 < stop:
        if load_u8(at) == 13 and load_u8(at + 1) == 10:
            return at
        at += 1
    return -1


@inner(apart=True)
def _has_controls(at: intp, stop: intp) -> boolean:
    """Whether the text has bytes below a blank, at which Python would split it too."""
    found = uint64(0)
    while at + 8 <= stop:
        word = load_u64(at)
        found |= (word - _BLANKS) & ~word & _HIGH
        at += 8
    while at < stop:
        found |= uint64(load_u8(at) < 32)
        at += 1
    return found != 0


@inner(apart=True)
def _number(at: intp, stop: intp, digits: int64) -> int64:
    """The number of these digits; -1 if there are none, other characters, or more digits."""
    if at >= stop or stop - at > digits:
        return -1
    number = int64(0)
    for k in range(at, stop):
        digit = int64(load_u8(k)) - 48
        if digit < 0 or digit > 9:
            return -1
        number = number * 10 + digit
    return number


@inner(apart=True)
def _token_end(at: intp, stop: intp, mark: int64) -> intp:
    """The address of the next `mark`, or `stop`."""
    while at < stop and load_u8(at) != mark:
        at += 1
    return at


@inner(apart=True)
def _read_reply(words: intp, at: intp, stop: intp, frame: intp) -> boolean:
    """Store the sequences in the reply subject of a delivered message; False for another subject."""
    if not _begins(words, _ACK, at, stop):
        return False
    dots = int64(0)
    for k in range(at, stop):
        dots += 1 if load_u8(k) == 46 else 0
    if dots not in (8, 10, 11):
        return False
    for _ in range(5 if dots == 8 else 7):
        at = _token_end(at, stop, 46) + 1
    end = _token_end(at, stop, 46)
    sequence = _number(at, end, _NUMBER_DIGITS)
    delivery = _number(end + 1, _token_end(end + 1, stop, 46), _NUMBER_DIGITS)
    if sequence <= 0 or delivery <= 0:
        return False
    store_i64(frame + 8 * SEQUENCE, sequence)
    store_i64(frame + 8 * DELIVERY, delivery)
    return True


@inner(apart=True)
def _stored_elsewhere(words: intp, at: intp, stop: intp, sequence: int64) -> boolean:
    """True if a checkpoint names another sequence of its message, or one that is too long to read here."""
    if load_u8(stop - 1) != 125:
        return False
    begin = stop - 1
    while begin > at and 48 <= load_u8(begin - 1) <= 57:
        begin -= 1
    size = _word_size(words, _SEQUENCE_MEMBER)
    if begin == stop - 1 or begin - size < at or not _begins(words, _SEQUENCE_MEMBER, begin - size, stop):
        return False
    return _number(begin, stop - 1, _NUMBER_DIGITS) != sequence


@inner(apart=True)
def _is_plain(data: intp, words: intp, at: intp, stop: intp, frame: intp) -> boolean:
    """Read the headers at at..stop; True if they are those of changes of a tail, without anything unusual."""
    if not _begins(words, _FIRST_LINE, at, stop) or stop - at < 4 or load_u8(stop - 3) != 10:
        return False
    at += _word_size(words, _FIRST_LINE)
    found = int64(0)
    while at < stop - 2:
        end = _line_end(at, stop)
        if end < 0:
            return False
        which = int64(0)
        while which < _OTHER and not _begins(words, which, at, end):
            which += 1
        if which < _OTHER:
            begin, last = at + _word_size(words, which), end
            while begin < last and load_u8(begin) == 32:
                begin += 1
            while begin < last and load_u8(last - 1) == 32:
                last -= 1
            is_printable = begin < last and 32 < load_u8(begin) < 127 and 32 < load_u8(last - 1) < 127
            if not is_printable or found & (1 << which) != 0 or which in (_STATEMENT, _OBJECT):
                return False
            found |= 1 << which
            if which in (_CONTENT, _SCHEMA):
                field = CONTENT if which == _CONTENT else FINGERPRINT
                store_i64(frame + 8 * field, begin - data)
                store_i64(frame + 8 * field + 8, last - data)
            elif which == _CHECKPOINT and _stored_elsewhere(words, begin, last, load_i64(frame + 8 * SEQUENCE)):
                return False
        at = end + 2
    has_both = found & 3 == 3
    return has_both and found & ((1 << _CHECKPOINT) | (1 << _BATCH)) != 0


@inner
def _is_same_text(data: intp, one: intp, other: intp, field: int64) -> boolean:
    """Whether a field has the same text in two frames."""
    begin, before = load_i64(one + 8 * field), load_i64(other + 8 * field)
    size = load_i64(one + 8 * field + 8) - begin
    return load_i64(other + 8 * field + 8) - before == size and same(data + begin, data + before, size)


@inner(apart=True)
def _read_frame(data: intp, words: intp, at: intp, end: intp, frame: intp) -> int64:
    """Store the numbers of the frame at `at`; returns its subscription, or -1 if it is not complete, or no frame."""
    if at + 5 > end or load_u8(at) not in (72, 77):
        return -1
    with_headers = load_u8(at) == 72
    first = at + (1 if with_headers else 0)
    if load_u8(first) != 77 or load_u8(first + 1) != 83 or load_u8(first + 2) != 71 or load_u8(first + 3) != 32:
        return -1
    line = _line_end(at, min(end, at + LONGEST_LINE))
    if line < 0 or _has_controls(at, line):
        return -1
    subject = first + 4
    subject_end = _token_end(subject, line, 32)
    token = _token_end(subject_end + 1, line, 32)
    subscription = _number(subject_end + 1, token, _NUMBER_DIGITS)
    if subject_end == subject or subscription < 0 or load_u8(subject_end + 1) == 48:
        return -1
    reply, reply_end = token + 1, token + 1
    spaces = int64(0)
    for k in range(token + 1, line):
        spaces += 1 if load_u8(k) == 32 else 0
    if spaces == (2 if with_headers else 1):
        reply_end = _token_end(reply, line, 32)
        token = reply_end
    elif spaces != (1 if with_headers else 0):
        return -1
    headers = int64(0)
    if with_headers:
        next_token = _token_end(token + 1, line, 32)
        headers = _number(token + 1, next_token, SIZE_DIGITS)
        token = next_token
    size = _number(token + 1, line, SIZE_DIGITS)
    if headers < 0 or size < headers or size > LARGEST_MESSAGE or line + size + 4 > end:
        return -1
    start = line + 2
    store_i64(frame + 8 * FRAME, at - data)
    store_i64(frame + 8 * FRAME_END, start + size + 2 - data)
    store_i64(frame + 8 * SUBJECT, subject - data)
    store_i64(frame + 8 * SUBJECT_END, subject_end - data)
    store_i64(frame + 8 * REPLY, reply - data)
    store_i64(frame + 8 * REPLY_END, reply_end - data)
    store_i64(frame + 8 * HEADERS, start - data)
    store_i64(frame + 8 * BODY, start + headers - data)
    store_i64(frame + 8 * BODY_END, start + size - data)
    for field in range(SEQUENCE, FLAGS):
        store_i64(frame + 8 * field, 0)
    flags = int64(DELIVERED) if _read_reply(words, reply, reply_end, frame) else int64(0)
    if flags != 0 and headers > 0 and _is_plain(data, words, start, start + headers, frame):
        flags |= PLAIN
    store_i64(frame + 8 * FLAGS, flags)
    return subscription


@kernel
def _find_line_end(data: intp, begin: int64, end: int64) -> int64:
    """The offset of the first CR LF in data[begin:end], or -1."""
    found = _line_end(data + begin, data + end)
    return found if found < 0 else found - data


@kernel
def _find_frames(
    data: intp, begin: int64, end: int64, wanted: intp, wanted_count: int64, words: intp, frames: intp, most: int64
) -> tuple[int64, int64]:
    """(number of frames, subscription): frames from `begin` on, of one of the wanted subscriptions."""
    count, own, at = int64(0), int64(-1), data + begin
    while count < most:
        frame = frames + 8 * FIELDS * count
        subscription = _read_frame(data, words, at, data + end, frame)
        is_wanted = False
        for k in range(wanted_count):
            is_wanted = is_wanted or load_i64(wanted + 8 * k) == subscription
        if not is_wanted or (count > 0 and subscription != own):
            break
        flags, before = load_i64(frame + 8 * FLAGS), frame - 8 * FIELDS
        is_new = count == 0 or flags & PLAIN != load_i64(before + 8 * FLAGS) & PLAIN
        if not is_new and flags & PLAIN != 0:
            is_new = not (
                _is_same_text(data, frame, before, CONTENT) and _is_same_text(data, frame, before, FINGERPRINT)
            )
        if is_new:
            store_i64(frame + 8 * FLAGS, flags | NEW)
        own = subscription
        count += 1
        at = data + load_i64(frame + 8 * FRAME_END)
    return count, own


def find_line_end(text: memoryview, begin: int, end: int) -> int:
    """The offset of the first CR LF in text[begin:end], or -1."""
    return _find_line_end(address(np.frombuffer(text, np.uint8)), begin, end)


def find_frames(text: memoryview, begin: int, end: int, subscriptions: Numbers, frames: Numbers) -> tuple[int, int]:
    """Store the frames in text[begin:end] that belong to one of these subscriptions, until one belongs to another.

    Returns (number of frames, subscription).
    """
    return _find_frames(
        address(np.frombuffer(text, np.uint8)), begin, end, address(subscriptions), len(subscriptions),
        address(WORDS), address(frames), len(frames),
    )  # fmt: skip
