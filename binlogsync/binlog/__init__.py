"""Bytes of a binary log in, `ChangeBatch`es out: pure decoding, no sockets, no files, no clock."""
