"""The names of definitions: both ends of a call make them, and the engine can check them without opening anything.

Standard library only.
"""

from __future__ import annotations

from hashlib import blake2b


def digest_of(body: bytes) -> str:
    """The name of a definition: 32 hexadecimal digits of blake2b."""
    return blake2b(body, digest_size=16).hexdigest()
