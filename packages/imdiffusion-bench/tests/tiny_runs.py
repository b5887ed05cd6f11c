"""Runs as the runner writes them, made up; their blocks, lines of tables, and notes."""

from imdiffusion_bench.summary import summarise
from imdiffusion_bench.tables import table


def run(variant="a", entity="e1", seed=0, *, dataset="SET", row=None, settings=None, **metrics):
    """A run that went well; metrics of the protocol label_free, or by protocol if dicts."""
    nested = any(isinstance(value, dict) for value in metrics.values())
    return {
        "dataset": dataset,
        "entity": entity,
        "variant": variant,
        "detector": row or variant,
        "seed": seed,
        "settings": settings or {},
        "status": "ok",
        "rows": {"train": 100, "test": 1000},
        "seconds": {"fit": 10.0, "score": 2.0, "evaluate": 1.0},
        "memory_mib": 100.0,
        "metrics": metrics if nested else {"label_free": metrics},
    }


def failed(variant="a", entity="e1", seed=0, *, dataset="SET", message="out of memory"):
    return {
        "dataset": dataset,
        "entity": entity,
        "variant": variant,
        "detector": variant,
        "seed": seed,
        "settings": {},
        "status": "failed",
        "stage": "fit",
        "error": {"type": "MemoryError", "message": message},
    }


def only_block(runs, *metrics, protocol="label_free"):
    (block,) = summarise(runs, protocol=protocol, metrics=metrics).blocks
    return block


def line_of(text, variant):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {variant} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def notes_of(block, *metrics):
    return table(block, "label_free", metrics).notes
