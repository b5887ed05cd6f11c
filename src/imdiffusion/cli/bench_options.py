"""The options of `imdiffusion bench`, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imdiffusion.cli.options import device_option, flag

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
Rows = Annotated[
    str | None, _listed("--rows", help="Detectors, instead of all of the plan's; its own settings.")
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
        help="A setting of every row that knows it; repeat for more.",
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
Again = Annotated[bool, flag("--retry-failed", help="Measure runs that failed once more.")]
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
