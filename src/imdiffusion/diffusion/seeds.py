"""Seeds made of words and numbers, so that randomness depends on its purpose. No torch."""

from __future__ import annotations

import hashlib


def seed_from(*parts: str | int) -> int:
    """A non-negative 63-bit seed from any words and numbers; stable over machines and versions."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
