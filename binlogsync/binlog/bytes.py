"""A cursor over bytes, for the events that Python parses."""

from __future__ import annotations


class ByteReader:
    """Reads little-endian integers and strings; raises ValueError when the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self._at

    def string(self, size: int) -> bytes:
        """The next `size` bytes."""
        if size > self.left:
            raise ValueError(f"{size} bytes expected, {self.left} left")
        self._at += size
        return self._data[self._at - size : self._at]

    def integer(self, size: int) -> int:
        """An unsigned integer of `size` bytes, least significant first."""
        return int.from_bytes(self.string(size), "little")

    def packed(self) -> int:
        """A length-encoded integer of the protocol: one byte up to 250, else a prefix and two, three or eight bytes."""
        first = self.integer(1)
        if first <= 250:
            return first
        if first == 251 or first == 255:
            raise ValueError(f"{first} does not start a length")
        return self.integer({252: 2, 253: 3, 254: 8}[first])

    def varlen(self) -> int:
        """A variable-length unsigned integer of MySQL's serialization library.

        The trailing 1 bits of the first byte give the number of bytes that follow it.
        """
        first = self.integer(1)
        more = (~first & -~first).bit_length() - 1
        return (int.from_bytes(bytes([first]) + self.string(more), "little")) >> min(more + 1, 8)

    def signed_varlen(self) -> int:
        """The same for a signed integer: the lowest bit is the sign."""
        value = self.varlen()
        return ~(value >> 1) if value & 1 else value >> 1

    def rest(self) -> bytes:
        """All bytes not read yet."""
        return self.string(self.left)
