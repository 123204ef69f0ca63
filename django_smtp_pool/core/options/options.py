"""What a pool is: the server and the identity it speaks to it with, and the rules it keeps.

The two objects are frozen and compared whole: pools are told apart by them.
"""

from .pool import PoolOptions
from .server import (
    EXTERNAL,
    MECHANISMS,
    PROOF_MECHANISMS,
    SCRAM_MECHANISMS,
    TOKEN_KEYS,
    TOKEN_MECHANISMS,
    ServerOptions,
)
from .tls import IN_CLEAR, TLSOptions

__all__ = [
    "EXTERNAL",
    "IN_CLEAR",
    "MECHANISMS",
    "PROOF_MECHANISMS",
    "SCRAM_MECHANISMS",
    "TOKEN_KEYS",
    "TOKEN_MECHANISMS",
    "PoolOptions",
    "ServerOptions",
    "TLSOptions",
]
