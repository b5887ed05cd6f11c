"""The benchmark: data sets, metrics, protocols, the runner and its tables.

    from imdiffusion.bench import Plan, Variant, bench, headline_tables, read

    asked = Plan("mine", ("SMD",), (Variant("fast", "fast"), Variant("random", "random")))
    bench(asked, Path("runs.jsonl"), root=Path("data"))
    print(headline_tables(read([Path("runs.jsonl")]), protocol="label_free"))

`imdiffusion bench` is the same on the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LAZY = {
    "bench": "imdiffusion.bench.runner",
    "domains_table": "imdiffusion.bench.domains",
    "evaluate": "imdiffusion.bench.protocols",
    "fetch": "imdiffusion.bench.datasets",
    "generate": "imdiffusion.bench.generator",
    "import_official": "imdiffusion.bench.datasets",
    "headline_tables": "imdiffusion.bench.tables",
    "open_source": "imdiffusion.bench.sources",
    "paper_table": "imdiffusion.bench.tables",
    "Plan": "imdiffusion.bench.plan",
    "read": "imdiffusion.bench.record",
    "Scores": "imdiffusion.bench.split",
    "Split": "imdiffusion.bench.split",
    "study": "imdiffusion.bench.studies",
    "tsb_ad_tables": "imdiffusion.bench.tsb_ad",
    "Truth": "imdiffusion.bench.split",
    "Variant": "imdiffusion.bench.plan",
    "write_page": "imdiffusion.bench.page",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
