"""Studies: a question, the runs that answer it, and the table and plot made of their records.

    study("gratings").plan  ->  the runner  ->  records  ->  study("gratings").table(records)

To add one, write a module with a `Study` called STUDY and add a line to STUDIES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from imdiffusion.schema import Value, one_of
from imdiffusion_bench.generator import Generated
from imdiffusion_bench.generator.config import Dials
from imdiffusion_bench.plan import PLANS, Plan, Variant
from imdiffusion_bench.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One network for many scorings: small, and one that imputes: a token a row, clean values beside the
# mask, trained under all kinds of masks, from all the noise. What is hidden from it matters: its
# held-out error is .6 of a channel's deviation under bands of two rows, and as large as the
# deviation under bands of twenty. Scored under gratings, its errors neither averaged over time nor
# rid of what drifts. So a study sees steps and masks, and nothing that hides them. What `fast`
# changes for itself stays as it was: another default is no reason to measure again.
IMPUTING: Mapping[str, Value] = {
    "max_steps": 400,
    "validate_every": 100,
    "patience": 0,
    "scale": "zscore",
    "scale_factor": 1.0,
    "denoiser": "mixer",
    "conditioning": "conditional",
    "prediction": "x0",
    "train_levels": "all",
    "patch_length": 1,
    "width": 64,
    "feedforward": 128,
    "layers": 3,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "lr_schedule": "cosine",
    "stride": 50,
    "train_mask": "mixed",
    "subset_share": 0.5,
    "mask": "grating",
    "mask_groups": 2,
    "bands": 10,
    "sampling_steps": 10,
    "sampling_start": 1.0,
    "ensemble": "mean",
    "ensemble_steps": 5,
    "ensemble_every": 1,
    "detrend": (0,),
    "smooth": (1,),
    "error_scale": ("holdout",),
    "log_gain": 0.0,
    "reduce": "mean",
    "calibrate_on": "holdout",
}


@dataclass(frozen=True, slots=True)
class Study:
    """A question, and data sets x variants x seeds that answer it.

    datasets: names that describe generated data sets in full. table: records -> markdown, numbers
    first, then what they say and what they do not. plot: records -> one sheet of charts. Both
    raise DataError where no run of the study is among the records.
    """

    name: str
    question: str
    datasets: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    table: Callable[[list[Record]], str]
    plot: Callable[[list[Record]], Figure]

    @property
    def plan(self) -> Plan:
        """What the runner is to measure."""
        return Plan(f"study:{self.name}", self.datasets, self.variants, self.seeds)


def dataset(**dials: Any) -> str:
    """The name of the generated data set with these dials; ConfigError for a wrong one."""
    return Generated(Dials(**dials)).name


def imputing(name: str, **settings: Value) -> Variant:
    """A variant that scores the network that imputes: IMPUTING over `fast`."""
    return Variant(name, "fast", {**IMPUTING, **settings})


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
    module, _, attribute = STUDIES[one_of("study", name, STUDIES)].partition(":")
    found: Study = getattr(import_module(module), attribute)
    return found


def named_plan(name: str) -> Plan:
    """The plan of this name; "study:NAME" is a study's. ConfigError with the nearest names."""
    if name.startswith("study:"):
        return study(name.removeprefix("study:")).plan
    return PLANS[one_of("plan", name, PLANS)]()
