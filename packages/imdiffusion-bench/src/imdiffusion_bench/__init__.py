"""The benchmark: data sets, metrics, protocols, the runner and its tables.

    from imdiffusion_bench import Plan, Variant, bench, headline_tables, read

    plan = Plan("mine", ("SMD",), (Variant("fast", "fast"), Variant("random", "random")))
    bench(plan, Path("runs.jsonl"), root=Path("data"))
    print(headline_tables(read([Path("runs.jsonl")]), protocol="label_free"))

`imdiffusion bench` is the same on the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_LAZY = {
    "bench": "imdiffusion_bench.runner",
    "domains_table": "imdiffusion_bench.aggregate",
    "evaluate": "imdiffusion_bench.protocols",
    "fetch": "imdiffusion_bench.datasets",
    "generate": "imdiffusion_bench.generator",
    "import_official": "imdiffusion_bench.datasets",
    "headline_tables": "imdiffusion_bench.tables",
    "open_source": "imdiffusion_bench.datasets",
    "paper_table": "imdiffusion_bench.published",
    "Plan": "imdiffusion_bench.plan",
    "read": "imdiffusion_bench.record",
    "Scores": "imdiffusion_bench.split",
    "Split": "imdiffusion_bench.split",
    "study": "imdiffusion_bench.studies",
    "tsb_ad_tables": "imdiffusion_bench.published",
    "Truth": "imdiffusion_bench.split",
    "Variant": "imdiffusion_bench.plan",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
