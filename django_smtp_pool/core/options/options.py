"""The key of a pool: the server with its account, and the rules of the pool.

Both objects are frozen, and compared field by field.
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
