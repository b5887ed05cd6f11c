"""`[serve]` of a live configuration as what the service asks of those who come."""

from __future__ import annotations

from imdiffusion.live.config.schema import ServeSection
from imdiffusion.live.service.auth import Access
from imdiffusion.live.service.server import check_tls


def access_of(given: ServeSection) -> Access:
    """Where it listens, and the tokens it wants."""
    return Access(
        **{name: getattr(given, name) for name in Access.__slots__ if hasattr(given, name)}
    )


def check_door(given: ServeSection) -> None:
    """What `serve` would refuse to open: ConfigError for tokens or files that will not do."""
    access_of(given).check()
    check_tls(given.tls_certificate, given.tls_key)
