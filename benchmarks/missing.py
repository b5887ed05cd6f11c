"""What detection loses when channels are away at scoring time: VUS-PR with 20 % and 50 % absent.

`fast` is fitted on whole data and scores rows from which whole channels were taken, drawn anew
three times. Beside it the Mahalanobis distance with a 30-row mean, *fitted* on what is left: what
was lost with the channels themselves, for a detector that needs no imputation. The entities are
those whose labels chose the default.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import ledger
import numpy as np

from imdiffusion import baselines
from imdiffusion.presets import resolve
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.detectors import CalibratedDetector, DiffusionDetector, settings_of
from imdiffusion_bench.metrics.range_based import vus_pr
from imdiffusion_bench.split import Split

# Whose labels chose: the part that the network of the default was chosen on (docs/log.md).
DEVELOPMENT = {
    "SMD": tuple(f"machine-1-{number}" for number in range(2, 9)),
    "GCP": tuple(f"service{number}" for number in range(10)),
    "ASD": tuple(f"omi-{number}" for number in range(1, 5)),
}
SHARES, DRAWS = (0.2, 0.5), 3
GENERATED = "generated:anomaly=level_shift,channels=6,rows_test=900,rows_train=900"


def absent(width: int, share: float, draw: int) -> np.ndarray:
    """Positions of the channels that are away."""
    order = np.random.default_rng(draw).permutation(width)
    return np.sort(order[: max(1, round(share * width))])


def fast_without(row: DiffusionDetector, split: Split, away: np.ndarray) -> np.ndarray:
    """Scores of the fitted row with channels unobserved in the test part."""
    observed = split.test.observed.copy()
    observed[:, away] = False
    return row.score(replace(split.test, observed=observed)).score


def refitted_without(split: Split, away: np.ndarray) -> np.ndarray:
    """Scores of the Mahalanobis distance fitted on the other channels alone."""
    left = [name for k, name in enumerate(split.train.channels) if k not in set(away.tolist())]
    row = CalibratedDetector(
        baselines.make("mahalanobis_30", seed=0), settings_of("mahalanobis_30", {})
    )
    return row.fit(split.train.select(left)).score(split.test.select(left)).score


def measure(split: Split, small: bool) -> dict[str, object]:
    """One entity: VUS-PR whole, and the mean over draws for each share and detector."""
    capped = {"max_steps": 20, "validate_every": 20} if small else {}
    row = DiffusionDetector(resolve("fast", capped), seed=0, device="cpu").fit(split.train)
    label, none = np.asarray(split.truth.label()), np.empty(0, np.int64)
    found: dict[str, object] = {"set": split.dataset, "entity": split.entity}
    for share in (0.0, *SHARES):
        draws = [none] if share == 0 else [absent(split.test.width, share, d) for d in range(DRAWS)]
        for name, scores in (
            ("fast", [fast_without(row, split, away) for away in draws]),
            ("mahalanobis_30_refitted", [refitted_without(split, away) for away in draws]),
        ):
            values = [vus_pr(label, score) for score in scores]
            found[f"{name}_{round(100 * share)}"] = round(float(np.mean(values)), 3)
    return found


def main() -> None:
    """Measure every entity, then the mean of each set, and keep the rows."""
    small = ledger.small()
    warnings.simplefilter("ignore")
    rows: list[dict[str, object]] = []
    if small:
        source = open_source(GENERATED, None)
        rows.append(measure(source.load(source.entities()[0]), small))
    elif (folder := ledger.data_folder()) is not None:
        for dataset, entities in DEVELOPMENT.items():
            source = open_source(dataset, folder)
            own = [measure(source.load(entity), small) for entity in entities]
            numbers = [key for key in own[0] if key not in ("set", "entity")]
            mean = {key: round(float(np.mean([one[key] for one in own])), 3) for key in numbers}
            rows += [*own, {"set": dataset, "entity": "mean", **mean}]
    if rows:
        ledger.keep("missing", rows, small=small)


if __name__ == "__main__":
    main()
