"""Base64 for files in one pass, block by block, and joined to a message, so that memory never holds a file twice."""

from __future__ import annotations

import struct
from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import chain

LARGE = 65536  # bytes; from this size on, an event loop renders in a thread, and memory counts

_LINE = 57  # octets of input per line, which become 76 octets (RFC 2045 section 6.8)
_BLOCK = 4096 * _LINE
_ROWS = struct.Struct("76s" * 256)  # cutting one by one takes four times as long


class Base64Lines:
    """The Base64 lines of a file, encoded while they are read.

    Arguments:
        content: the bytes to encode; they are sliced block by block.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def octets(self) -> int:
        """The number of octets in all lines. It is not the length: `tuple` would reserve a place for each octet."""
        size = memoryview(self._content).nbytes
        return (size + 2) // 3 * 4 + -(-size // _LINE) * 2

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(self._content)
        for at in range(0, len(view), _BLOCK):
            text = b2a_base64(view[at : at + _BLOCK], newline=False)
            full = len(text) - len(text) % _ROWS.size
            rows = [*chain.from_iterable(_ROWS.iter_unpack(memoryview(text)[:full]))]
            rows += [text[start : start + 76] for start in range(full, len(text), 76)]
            yield b"\r\n".join((*rows, b""))


def joined(pieces: Sequence[bytes | Iterable[bytes]]) -> tuple[bytes, list[tuple[int, int]]]:
    """Return texts, and files as the pieces of their base64, as one bytes object, and where the files are."""
    base64: list[tuple[int, int]] = []
    file = BytesIO()
    room = sum(map(_octets, pieces))
    if room >= LARGE:  # joining a list would hold the content twice, and a growing buffer takes an eighth more
        file.seek(room)
        file.write(b"\0")
        file.seek(0)
    for piece in pieces:
        if isinstance(piece, bytes):
            file.write(piece)
        else:
            start = file.tell()
            file.writelines(piece)
            base64.append((start, file.tell()))
    file.truncate()
    return file.getvalue(), base64


def _octets(piece: bytes | Iterable[bytes]) -> int:
    if isinstance(piece, bytes):
        return len(piece)
    return piece.octets if isinstance(piece, Base64Lines) else sum(map(len, piece))
