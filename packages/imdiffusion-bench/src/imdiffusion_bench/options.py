"""The options of `imdiffusion bench`, each declared once, and the plan that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.options import device_option, flag
from imdiffusion.errors import UsageError
from imdiffusion.schema import Value

if TYPE_CHECKING:
    from imdiffusion_bench.behaviours import Question
    from imdiffusion_bench.plan import Plan, Variant


Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        envvar="IMDIFFUSION_DATA",
        help="Folder that holds SMD, GCP, ASD, MSL, SMAP, ... or, for tsb_ad_m, its files.",
        show_default=False,
    ),
]
Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUNS", help="JSON lines written by `bench run`.", show_default=False),
]


def _listed(*names: str, help: str) -> Any:
    return typer.Option(*names, metavar="A,B,...", help=help, show_default=False)


PlanName = Annotated[
    str | None,
    typer.Argument(metavar="[PLAN]", help="A plan by name (`bench plans`).", show_default=False),
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="JSON lines, one a run; appended to.")
]
Sets = Annotated[
    str | None,
    _listed(
        "--sets",
        help="Data sets, instead of the plan's; dials such as noise=0.2,channels=3 stay with the "
        "generated:... before them.",
    ),
]
Entities = Annotated[
    str | None,
    _listed("--entities", help="Only these: SET/ENTITY, or ENTITY of every set that has it."),
]
Metrics = Annotated[
    str | None,
    _listed("--metrics", help="Columns, instead of the usual; the first one ranks."),
]
Among = Annotated[
    str | None,
    _listed("--among", help="Variants that may be chosen, instead of all that are whole."),
]
Detectors = Annotated[
    str | None,
    _listed("--detectors", help="Detectors, instead of the plan's or the usual (`bench names`)."),
]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="0-5", help="Seeds, instead of the plan's.", show_default=False),
]
Every = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of every detector that knows it; repeat for more.",
        show_default=False,
    ),
]
Shard = Annotated[str, typer.Option(metavar="I/N", help="The I-th of N parts.")]
Jobs = Annotated[int, typer.Option(help="Runs at the same time, also on one GPU.")]
Threads = Annotated[
    int | None, typer.Option(help="Threads of one run.", show_default="cores / jobs")
]
Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after so long; the same call continues.", show_default=False),
]
Again = Annotated[bool, flag("--retry-failed", help="Measure failed runs again.")]
Keep = Annotated[
    Path | None,
    typer.Option(
        "--keep-scores",
        metavar="FOLDER",
        help="Keep the scores of each run there, as <id>.npz.",
        show_default=False,
    ),
]
Where = Annotated[str, device_option("Where networks are computed.")]
Scenarios = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Only these scenarios.", show_default=False)
]
SystemOption = Annotated[
    str,
    typer.Option(
        "--dials",
        metavar="KEY=VALUE,...",
        help="Dials of the system: channels, period_s, rows_train, rows_test, season, "
        "coupling, noise, missing, batch_minutes, size, length and others (docs/behaviours.md).",
        show_default=False,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also draw: .svg or .png.", show_default=False),
]


def plan_of(
    name: str | None,
    sets: str | None,
    entities: str | None,
    detectors: str | None,
    seeds: str | None,
    overrides: Sequence[str] | None,
    *,
    root: Path | None,
) -> Plan:
    """The plan of this name, with what the options say instead; without a name, the options alone.

    A detector that the plan has stays as the plan has it, in all its variants.

    Raises UsageError for an option that says nothing or names no entity, ConfigError for an
    unknown plan or setting, DataError where data sets are to be looked up and are not in `root`.
    """
    from imdiffusion_bench.plan import PAPER_OWN, Plan, Variant
    from imdiffusion_bench.runner import check_root
    from imdiffusion_bench.studies import named_plan

    if name is None and not (sets and detectors):
        raise UsageError(
            "nothing to measure is named", remedy="Give a plan, or both --sets and --detectors."
        )
    given = Plan("own", (), ()) if name is None else named_plan(name)
    variants, own = given.variants, given.own
    if detectors is not None:
        variants = tuple(
            variant
            for detector in words("--detectors", detectors)
            for variant in [one for one in variants if one.detector == detector]
            or [Variant(detector, detector)]
        )
        own = own or PAPER_OWN
    plan = replace(
        given,
        datasets=given.datasets if sets is None else _data_sets("--sets", sets),
        variants=_with_settings(variants, overrides or ()),
        seeds=given.seeds if seeds is None else seeds_of(seeds),
        own=own,
    )
    check_root(root, plan)
    return plan if entities is None else _only(plan, _data_sets("--entities", entities), root)


def words(option: str, text: str) -> tuple[str, ...]:
    """ "a, b,a" -> ("a", "b")."""
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise UsageError(f"{option} {text!r} names nothing", remedy="For instance A,B.")
    return found


def _data_sets(option: str, text: str) -> tuple[str, ...]:
    """As `words`, but "key=value" belongs to the generated set before it, as its name has it."""
    from imdiffusion_bench.datasets import needs_folder

    found: list[str] = []
    for word in (word.strip() for word in text.split(",")):
        dial = "=" in word.partition(":")[0]
        if dial and found and ":" in found[-1] and not needs_folder(found[-1]):
            found[-1] += f",{word}"
        else:
            found.append(word)
    return tuple(dict.fromkeys(filter(None, found))) or words(option, text)


def seeds_of(text: str) -> tuple[int, ...]:
    """ "0-2,7" -> (0, 1, 2, 7)."""
    found: list[int] = []
    for word in words("--seeds", text):
        first, dash, last = word.partition("-")
        if not first.isdecimal() or not (last if dash else first).isdecimal():
            raise UsageError(f"--seeds {text} is no list of seeds", remedy="For instance 0-2,7.")
        several = range(int(first), int(last or first) + 1)
        if not several:
            raise UsageError(
                f"--seeds {text}: there is no seed from {first} to {last}",
                remedy=f"Write {last}-{first}.",
            )
        found += several
    return tuple(dict.fromkeys(found))


def _with_settings(variants: Sequence[Variant], pairs: Sequence[str]) -> tuple[Variant, ...]:
    """Each variant with the settings that its detector knows, and with a name that says so."""
    from imdiffusion.cli.setting_options import assignments
    from imdiffusion.schema import spelled
    from imdiffusion_bench.detectors import settings_of
    from imdiffusion_bench.plan import Variant

    given: dict[str, Value] = assignments(pairs)
    known = {one.detector: settings_of(one.detector, {}) for one in variants} if given else {}
    for key, value in given.items():
        if not any(key in settings for settings in known.values()):
            settings_of(variants[0].detector, {key: value})  # raises, and says what is near
    changed = []
    for one in variants:
        own = {key: value for key, value in given.items() if key in known[one.detector]}
        name = ", ".join([one.name, *(f"{key}={spelled(value)}" for key, value in own.items())])
        changed.append(Variant(name, one.detector, {**one.settings, **own}))
    return tuple(changed)


def _only(plan: Plan, wanted: Sequence[str], root: Path | None) -> Plan:
    """The plan on these entities alone: "SET/ENTITY", or "ENTITY" of every set that has it."""
    from imdiffusion.schema import nearest
    from imdiffusion_bench.datasets import open_source

    known = {name: open_source(name, root).entities() for name in plan.datasets}
    chosen: dict[str, list[str]] = {name: [] for name in known}
    for word in wanted:
        dataset, _, entity = word.rpartition("/")
        if dataset and dataset not in known:
            raise UsageError(
                f"--entities {word}: {dataset} is none of the data sets",
                remedy=f"They are {', '.join(known)}.",
            )
        places = [dataset] if dataset else list(known)
        there = [name for name in places if entity in known[name]]
        if not there:
            raise UsageError(
                f"--entities {word}: no such entity in {dataset or 'any of the data sets'}",
                remedy=nearest(entity, {one for name in places for one in known[name]}),
            )
        for name in there:
            chosen[name].append(entity)
    entities = {name: tuple(dict.fromkeys(found)) for name, found in chosen.items() if found}
    return replace(plan, datasets=tuple(entities), entities=entities)


def question_of(
    detectors: str | None,
    scenarios: str | None,
    dials: str,
    seeds: str,
    overrides: Sequence[str] | None,
    *,
    device: str,
) -> Question:
    """What the options ask for. Raises UsageError or ConfigError for what they cannot say."""
    from imdiffusion.schema import pairs_of
    from imdiffusion_bench.behaviours import SCENARIOS, Question, SystemDials
    from imdiffusion_bench.behaviours.measuring import USUAL
    from imdiffusion_bench.behaviours.scenarios import scenario

    names = USUAL if detectors is None else words("--detectors", detectors)
    chosen = tuple(SCENARIOS) if scenarios is None else words("--scenarios", scenarios)
    for one in chosen:
        scenario(one)
    system = SystemDials.from_texts(pairs_of(dials, "--dials: "))
    question = Question(names, chosen, system, seeds_of(seeds), device=device)
    return replace(question, settings=_settings(names, overrides or ()))


def _settings(detectors: Iterable[str], pairs: Sequence[str]) -> Mapping[str, dict[str, Value]]:
    """The settings of `--set`, each for the detectors that have it; one has it at least."""
    from imdiffusion.cli.setting_options import assignments
    from imdiffusion_bench.detectors import settings_of

    given: dict[str, Any] = assignments(pairs)
    known = {name: settings_of(name, {}) for name in detectors}
    for key, value in given.items():
        if not any(key in settings for settings in known.values()):
            settings_of(next(iter(known)), {key: value})  # raises, and says what is near
    return {
        name: {key: value for key, value in given.items() if key in settings}
        for name, settings in known.items()
    }
