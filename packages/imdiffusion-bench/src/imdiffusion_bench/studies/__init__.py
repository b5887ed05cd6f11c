"""Studies: a question, the runs that answer it, and the table and plot made of their records.

    study("gratings").plan  ->  the runner  ->  records  ->  study("gratings").table(records)

To add one, write a module with a `Study` called STUDY and add a line to STUDIES.
"""

from __future__ import annotations

from importlib import import_module

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion_bench.studies.study import Study

__all__ = ["STUDIES", "Study", "names", "study"]

STUDIES: dict[str, str] = {
    "complexity": "imdiffusion_bench.studies.complexity:STUDY",
    "gratings": "imdiffusion_bench.studies.gratings:STUDY",
    "imbalance": "imdiffusion_bench.studies.imbalance:STUDY",
    "ensembling": "imdiffusion_bench.studies.ensembling:STUDY",
    "variance": "imdiffusion_bench.studies.variance:STUDY",
}


def names() -> tuple[str, ...]:
    """The names of all studies."""
    return tuple(STUDIES)


def study(name: str) -> Study:
    """The study of this name; ConfigError with the nearest names if there is none."""
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}", remedy=registry.nearest(name, STUDIES))
    module, _, attribute = STUDIES[name].partition(":")
    found: Study = getattr(import_module(module), attribute)
    return found
