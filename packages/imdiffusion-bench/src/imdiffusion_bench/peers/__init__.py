"""Peers: detectors of other packages, each in an environment of its own because of what it needs.

A peer has the face of a baseline, `fit(x (T,K))` and `decision_function(x) -> (T,)`; behind it a
process of that environment's Python trains and scores. README.md here says what the methods are,
where they differ from their papers, and what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from imdiffusion.errors import ConfigError
from imdiffusion.registry import nearest
from imdiffusion.settings import Scalar
from imdiffusion_bench.peers.peer import SETTINGS, Peer

__all__ = ["PEERS", "SETTINGS", "Peer", "make", "names"]

# name -> (environment, method in its worker)
PEERS: Mapping[str, tuple[str, str]] = {
    f"{environment}:{method}": (environment, method)
    for environment, methods in {
        "timesead": (
            "omni_anomaly",
            "beat_gan",
            "mad_gan",
            "mtad_gat",
            "gdn",
            "mscred",
            "lstm_prediction",
        ),
        "tsb_ad": ("tran_ad", "omni_anomaly", "usad", "cnn", "lstm_ad", "times_net"),
    }.items()
    for method in methods
}


def names() -> tuple[str, ...]:
    """The names of all peers."""
    return tuple(PEERS)


def make(
    name: str,
    *,
    seed: int = 0,
    settings: Mapping[str, Scalar] | None = None,
    device: str = "auto",
) -> Peer:
    """A fresh, unfitted peer; of `settings` it takes those of `SETTINGS` and passes over others.

    Raises ConfigError with the nearest names if there is none called `name`.
    """
    if name not in PEERS:
        raise ConfigError(f"unknown peer {name!r}", remedy=nearest(name, PEERS))
    environment, method = PEERS[name]
    given = {key: value for key, value in (settings or {}).items() if key in SETTINGS}
    return Peer(environment, method, seed=seed, device=device, **given)  # type: ignore[arg-type]
