"""Base64 for files in one pass, block by block, so that memory never holds a file twice."""

from __future__ import annotations

import struct
from binascii import b2a_base64
from io import BytesIO
from itertools import chain

_LINE = 57  # octets of input per line, which become 76 octets (RFC 2045 section 6.8)
_BLOCK = 4096 * _LINE
_ROWS = struct.Struct("76s" * 256)  # cutting one by one takes four times as long


def in_base64(content: bytes) -> bytes:
    """Return a file in base64 (RFC 2045 §6.8), in lines of 76 octets and CRLF."""
    view, file = memoryview(content), BytesIO()
    size = (view.nbytes + 2) // 3 * 4 + -(-view.nbytes // _LINE) * 2
    file.seek(size)  # a buffer that grows takes an eighth more
    file.write(b"\0")
    file.seek(0)
    for at in range(0, len(view), _BLOCK):
        text = b2a_base64(view[at : at + _BLOCK], newline=False)
        full = len(text) - len(text) % _ROWS.size
        rows = [*chain.from_iterable(_ROWS.iter_unpack(memoryview(text)[:full]))]
        rows += [text[start : start + 76] for start in range(full, len(text), 76)]
        file.write(b"\r\n".join((*rows, b"")))
    file.truncate()
    return file.getvalue()
