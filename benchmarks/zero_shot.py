"""What weights from other data sets are worth: VUS-PR with no training on the entity at all.

A network without a channel count is trained on the training parts of four sets and scores the
fifth; it sets out from the mean, or from the covariance of the entity's rows. Beside it stand the
same pipeline without any weights (the mean itself, the covariance itself), the same networks
untrained, one-liners, and the recorded runs of `fast` with a network each. Only `fast` takes a
gradient on the entity: elsewhere its rows fit scaler, covariance, units and threshold alone.

rows: how many rows of the entity that is, the last ones before the test part (all, where it has
fewer); 0 = all of its training part. Pieces are kept, so a run that was cut off goes on.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import countless
import ledger
import numpy as np
import torch
from countless import PROMISE, Description, Make, calibrated, shown
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from imdiffusion import baselines
from imdiffusion.data.frame import Frame
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.detectors import CalibratedDetector, settings_of
from imdiffusion_bench.metrics.range_based import vus_pr
from imdiffusion_bench.record import read
from imdiffusion_bench.significance import signed_rank_p
from imdiffusion_bench.split import Split

RUNS = Path(__file__).parent.parent / "docs" / "results" / "runs"
WORK = Path(__file__).parent / "results" / "zero_shot.work"
SETS = ("SMD", "GCP", "ASD", "MSL", "SMAP")
ENTITIES = 8  # the first of each set, which networks score; what needs none scores all
STEPS, SEEDS = 800, (0, 1)
FEW = (120, 500, 2_000)
ONE_LINERS = ("mahalanobis_30", "moving_variance")  # those that are fitted on few rows too
Piece = dict[str, Any]
Floats = NDArray[np.float64]
MEAN, COVARIANCE = "no network: the mean", "no network: the covariance"
JOINED = ", or the mean"  # the larger of both scores
STARTS = ("covariance", "mean")  # where the network sets out
OWN, BEST = "a network each (fast)", "best one-liner of the set"
NOTHING: Make = lambda rows: countless.Nothing()  # noqa: E731
LINEAR: Make = lambda rows: countless.Linear(Description.of(rows))  # noqa: E731


def last(frame: Frame, rows: int) -> Frame:
    """The last rows of a frame; 0 = all."""
    return frame.slice(max(0, len(frame.values) - rows) if rows else 0)


def judged(split: Split, score: Floats) -> Piece:
    """VUS-PR, and the share of normal rows above the label-free threshold."""
    label = np.asarray(split.truth.label()).astype(bool)
    above = score > 1.0
    return {"vus_pr": vus_pr(label, score), "alarms": float(above[~label].mean())}


def without_training(split: Split, rows: int, make: Make) -> Piece:
    """The pipeline of `fast` under a denoiser that was not trained on this entity.

    joined: the larger of its score and that of expecting the mean, each over its threshold.
    """
    frame = last(split.train, rows)
    own, mean = (scored_by(calibrated(frame, one), split) for one in (make, NOTHING))
    return {**judged(split, own), "joined": judged(split, np.maximum(own, mean))}


def scored_by(entity: Entity, split: Split) -> Floats:
    runs = entity.score_runs([entity.rows(split.test)])
    return entity.score(np.concatenate([run.errors for run in runs], axis=1))


def one_liner(split: Split, rows: int, name: str) -> Piece:
    row = CalibratedDetector(baselines.make(name, seed=0), settings_of(name, PROMISE))
    return judged(split, row.fit(last(split.train, rows)).score(split.test).score)


class Pieces:
    """What was measured already, in a folder of its own for this very program and its sizes."""

    def __init__(self, folder: Path | None) -> None:
        self.folder, self.found = folder, dict[str, Piece]()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = folder / "pieces.jsonl"
            self.file.touch()
            lines = map(json.loads, self.file.read_text().splitlines())
            self.found = {one["key"]: one for one in lines}

    def once(self, facts: Piece, measure: Callable[[], Piece]) -> Piece:
        """What was measured before under these facts, or is measured now."""
        key = json.dumps(facts, sort_keys=True)
        if key not in self.found:
            self.found[key] = {"key": key, **facts, **measure()}
            if self.folder is not None:
                with self.file.open("a") as out:
                    out.write(json.dumps(self.found[key]) + "\n")
        return self.found[key]

    def weights(
        self, start: str, left_out: str, seed: int, others: list[list[Rows]], steps: int
    ) -> countless.Countless:
        """The weights that the other sets give, read or trained."""
        if self.folder is None:
            return countless.train(start, others, seed=seed, steps=steps)
        path = self.folder / f"{start}_{left_out}_{seed}.safetensors"
        if not path.exists():
            trained = countless.train(start, others, seed=seed, steps=steps)
            save_file(trained.state_dict(), path)
        network = countless.untrained(start, 0, loud=False)
        network.load_state_dict(load_file(path))
        return network


def work_folder() -> Path:
    """Changes with the programs and the versions: other pieces are none of this run's."""
    text = [Path(file).read_text() for file in (__file__, countless.__file__)]
    facts = [*text, torch.__version__, np.__version__]
    return WORK / hashlib.sha256("".join(facts).encode()).hexdigest()[:12]


def measured(
    pieces: Pieces, data: dict[str, list[Split]], *, steps: int, seeds: Sequence[int]
) -> Iterator[Piece]:
    """Every entity under every detector: the cheap ones first, then a set left out at a time."""
    plain: dict[str, Callable[[Split, int], Piece]] = {
        MEAN: partial(without_training, make=NOTHING),
        COVARIANCE: partial(without_training, make=LINEAR),
        **{name: partial(one_liner, name=name) for name in ONE_LINERS},
    }
    for name, splits in data.items():
        for split, rows, what in product(splits, (0, *FEW), plain):
            facts = {"set": name, "entity": split.entity, "what": what, "rows": rows}
            yield from with_joined(pieces.once(facts, partial(plain[what], split, rows)))
    for left_out, splits in data.items():
        others = [[shown(s.train) for s in own] for name, own in data.items() if name != left_out]
        for start, seed in product(STARTS, (None, *seeds)):
            if seed is None:
                network = countless.untrained(start, 0, loud=True)
            else:
                network = pieces.weights(start, left_out, seed, others, steps)
            what = f"random weights, from {start}" if seed is None else zero_shot(start, seed)

            def make(own: Rows, network: countless.Countless = network) -> nn.Module:
                return countless.Described(network, Description.of(own))

            for split, rows in product(splits[:ENTITIES], (0, *FEW) if seed == 0 else (0,)):
                facts = {"set": left_out, "entity": split.entity, "what": what, "rows": rows}
                measure = partial(without_training, split, rows, make)
                yield from with_joined(pieces.once(facts, measure))


def zero_shot(start: str, seed: int) -> str:
    return f"zero-shot from {start}, seed {seed}"


def with_joined(piece: Piece) -> Iterator[Piece]:
    yield piece
    if "joined" in piece and piece["what"] != MEAN:
        yield {**piece, **piece["joined"], "what": piece["what"] + JOINED}


def recorded(data: dict[str, list[Split]]) -> Iterator[Piece]:
    """`fast`, the best one-liner of each set by its labels, and random rows, seed 0."""
    runs: dict[tuple[str, str], dict[str, Piece]] = {}
    for run in read([RUNS / "headline.jsonl", RUNS / "one_liners.jsonl"]):
        if run["seed"] == 0 and run["status"] == "ok" and run["dataset"] in data:
            found = run["metrics"]["label_free"]
            one = {"vus_pr": found["vus_pr"], "alarms": found["alarm_share_normal"], "rows": 0}
            runs.setdefault((run["dataset"], run["variant"]), {})[run["entity"]] = one
    for name, splits in data.items():
        level = {
            variant: float(np.mean([one["vus_pr"] for one in own.values()]))
            for (dataset, variant), own in runs.items()
            if dataset == name and variant not in ("fast", "random")
        }
        best = max(level, key=level.__getitem__)
        for what, variant in (
            (OWN, "fast"),
            (BEST, best),
            ("random", "random"),
        ):
            for split in splits:
                own = runs[name, variant][split.entity]
                yield {"set": name, "entity": split.entity, "what": what, **own}


def table(pieces: Sequence[Piece], most: int) -> list[Piece]:
    """A line for each detector and number of rows: mean VUS-PR of each set, and alarms.

    First over the entities that all detectors have, the first `most` of each set, then over all.
    """
    sets = dict.fromkeys(piece["set"] for piece in pieces)
    names = {n: dict.fromkeys(p["entity"] for p in pieces if p["set"] == n) for n in sets}
    first = {(name, entity) for name, own in names.items() for entity in list(own)[:most]}
    lines = []
    for part in ("first", "all"):
        for what, rows in dict.fromkeys((one["what"], one["rows"]) for one in pieces):
            own = [one for one in pieces if (one["what"], one["rows"]) == (what, rows)]
            if part == "first":
                own = [one for one in own if (one["set"], one["entity"]) in first]
            elif len(own) == len(first):
                continue
            means = {s: np.mean([o["vus_pr"] for o in own if o["set"] == s]) for s in names}
            lines.append(
                {
                    "what": what,
                    "rows": rows,
                    "entities": len(own),
                    **{name: round(float(mean), 4) for name, mean in means.items()},
                    "mean_of_sets": round(float(np.mean(list(means.values()))), 4),
                    "normal_rows_above": round(float(np.median([p["alarms"] for p in own])), 4),
                }
            )
    return lines


def pairs(pieces: Sequence[Piece], seeds: Sequence[int]) -> Iterator[Piece]:
    """One detector less another, entity by entity; zero-shot is the mean over its seeds."""
    have = dict.fromkeys((one["what"], one["rows"]) for one in pieces)
    for start, joined in product(STARTS, ("", JOINED)):
        drawn = [zero_shot(start, seed) + joined for seed in seeds]
        name = f"zero-shot from {start}{joined}"
        plain = (MEAN, COVARIANCE + joined, f"random weights, from {start}{joined}")
        for what in (*plain, *ONE_LINERS, OWN, BEST):
            if (what, 0) in have:
                yield paired(pieces, name, drawn, what, 0)
        for rows in FEW:
            for what in (MEAN, COVARIANCE + joined, *ONE_LINERS):
                yield paired(pieces, name, drawn[:1], what, rows)
    for what in (MEAN, COVARIANCE, COVARIANCE + JOINED):
        for other in (OWN, BEST):
            if (other, 0) in have:
                yield paired(pieces, what, [what], other, 0)


def paired(
    pieces: Sequence[Piece], name: str, first: Sequence[str], other: str, rows: int
) -> Piece:
    def of(what: str) -> dict[tuple[str, str], float]:
        own = [one for one in pieces if (one["what"], one["rows"]) == (what, rows)]
        return {(one["set"], one["entity"]): one["vus_pr"] for one in own}

    draws, second = [of(what) for what in first], of(other)
    less = np.array([np.mean([one[key] for one in draws]) - second[key] for key in draws[0]])
    return {
        "what": f"{name}, less {other}",
        "rows": rows,
        "entities": len(less),
        "mean_difference": round(float(less.mean()), 4),
        "higher": int((less > 0).sum()),
        "p": float(f"{signed_rank_p(less):.2g}"),
    }


def main() -> None:
    """Measure every piece that is not there yet, and keep the tables."""
    small = ledger.small()
    warnings.simplefilter("ignore")  # constant channels; 120 rows are calibrated in-sample
    if small:
        kinds = ("level_shift", "spike")
        names = [f"generated:anomaly={k},channels=6,rows_test=400,rows_train=400" for k in kinds]
        data = {k: _all(open_source(n, None)) for k, n in zip(kinds, names, strict=True)}
        found = list(measured(Pieces(None), data, steps=3, seeds=(0,)))
        ledger.keep("zero_shot", [*table(found, 1), *pairs(found, (0,))], small=True)
    elif (folder := ledger.data_folder()) is not None:
        data = {name: _all(open_source(name, folder)) for name in SETS}
        pieces = Pieces(work_folder())
        found = [*recorded(data), *measured(pieces, data, steps=STEPS, seeds=SEEDS)]
        ledger.keep("zero_shot", [*table(found, ENTITIES), *pairs(found, SEEDS)], small=False)


def _all(source: Any) -> list[Split]:
    return [source.load(entity) for entity in source.entities()]


if __name__ == "__main__":
    main()
