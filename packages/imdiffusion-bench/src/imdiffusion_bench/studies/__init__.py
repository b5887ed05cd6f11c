"""Studies of the paper's claims on generated data: the runs of each, its table and its plot.

    study("gratings").plan  ->  the runner  ->  records  ->  study("gratings").table(records)

To add one, write its three functions and a `Study`, and name it in STUDIES.
"""

from __future__ import annotations

from imdiffusion.schema import one_of
from imdiffusion_bench.plan import PLANS, Plan
from imdiffusion_bench.studies.cells import Study
from imdiffusion_bench.studies.sampling import ENSEMBLING, VARIANCE
from imdiffusion_bench.studies.series import COMPLEXITY, GRATINGS, IMBALANCE

STUDIES: dict[str, Study] = {
    one.name: one for one in (COMPLEXITY, GRATINGS, IMBALANCE, ENSEMBLING, VARIANCE)
}


def study(name: str) -> Study:
    """The study of this name; ConfigError with the nearest names if there is none."""
    return STUDIES[one_of("study", name, STUDIES)]


def named_plan(name: str) -> Plan:
    """The plan of this name; "study:NAME" is a study's. ConfigError with the nearest names."""
    if name.startswith("study:"):
        return study(name.removeprefix("study:")).plan
    return PLANS[one_of("plan", name, PLANS)]
