"""The certificate and the key of the service, looked at before anything listens."""

from __future__ import annotations

import ssl
from pathlib import Path

from imdiffusion.errors import ConfigError


def check_tls(certificate: str, key: str) -> bool:
    """Whether TLS is asked for. ConfigError: the files are not there, or do not belong together."""
    if not certificate and not key:
        return False
    if not certificate or not key:
        raise ConfigError(
            "TLS needs a certificate and its key", remedy="Give both files, or neither."
        )
    for what, name in (("certificate", certificate), ("key", key)):
        if not Path(name).is_file():
            raise ConfigError(
                f"there is no file {name}, which should hold the {what}",
                remedy="Name a PEM file.",
            )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the certificate {certificate} and the key {key} cannot be used together",
            remedy="Give PEM files that belong together, the key without a password.",
        ) from error
    return True
