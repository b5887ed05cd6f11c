"""Download a public data set from its home, by pooch, and import it.

A file has its name only when it is whole and has the SHA-256 that is known; the next call downloads
what lacks then, and no file twice.
"""

from __future__ import annotations

import fcntl
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imdiffusion.errors import DataError, DataWarning, OutputError, UsageError
from imdiffusion.progress import OnProgress, Progress
from imdiffusion.schema import one_of
from imdiffusion_bench.datasets.known import DATASETS, known_sums
from imdiffusion_bench.datasets.official import OFFICIAL, all_there, import_official, room_for

DRAFTS = ".fetch"  # in the root: what is being downloaded
_MIB = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_PIECE = 1 << 16
_GROUPS = {1: 8, 2: 9, 3: 11}  # of the machines of SMD: 28 in all
_MACHINES = [f"machine-{group}-{k}" for group, n in _GROUPS.items() for k in range(1, n + 1)]
_KINDS = ("train", "test", "test_label", "interpretation_label")


@dataclass(frozen=True, slots=True)
class Home:
    """Where the files of a data set are: addresses are base/file."""

    base: str
    files: tuple[str, ...]


HOMES: dict[str, Home] = {
    "SMD": Home(
        "https://raw.githubusercontent.com/NetManAIOps/OmniAnomaly/master/ServerMachineDataset",
        tuple(f"{kind}/{machine}.txt" for machine in _MACHINES for kind in _KINDS),
    ),
    "PSM": Home(
        "https://raw.githubusercontent.com/eBay/RANSynCoders/main/data",
        ("train.csv", "test.csv", "test_label.csv"),
    ),
}


def fetch(
    name: str,
    root: Path,
    *,
    base: str | None = None,
    limit_mib: int = 2048,
    on_progress: OnProgress | None = None,
) -> Path:
    """Download the official files of `name`, import them to `root/name`, and return that folder.

    base: another address that has the same files (a mirror). limit_mib: MiB for all files
    together. on_progress is told the bytes that are there of all files (the total is not known),
    and in `info` the number of the file and of all. Files whose SHA-256 is known are held to it.
    Of the others a DataWarning gives the number, and `unchecked` in index.json the names.

    Files lie in `root/.fetch/name` until the import is done; after a failure the next call goes on
    from there, without those of unknown checksum if it was the import that failed. Of SMD, machines
    that `root/name` holds are not downloaded again.

    Raises ConfigError for an unknown set; DataError for one that cannot be fetched (the remedy says
    where it is), and for every failure of a download or import; OutputError where all of it is in
    `root/name` already or the disk refuses; UsageError for a limit below 1 and while another fetch
    of the set is under way.
    """
    home = _home(name)
    if limit_mib < 1:
        raise UsageError(f"a limit of {limit_mib} MiB", remedy="Allow at least 1.")
    root = Path(root)
    drafts = root / DRAFTS / name
    wanted = _wanted(home, root, name, drafts)
    _make(drafts)
    address = (home.base if base is None else base).rstrip("/")
    sums = known_sums(name)
    with _alone(root / DRAFTS / f"{name}.lock", name):
        held, limit = 0, limit_mib * _MIB
        for number, file in enumerate(wanted, start=1):
            held += download(
                f"{address}/{file}", drafts / file, limit=limit - held, sha256=sums.get(file)
            )
            if on_progress is not None:
                info = {"file": float(number), "of": float(len(wanted))}
                on_progress(Progress(f"fetch {name}", held, 0, info))
        unchecked = [file for file in wanted if file not in sums]
        about = {"fetched_from": address, "unchecked": unchecked}
        folder = _imported(name, drafts, root, about, unchecked)
        shutil.rmtree(drafts)
    if unchecked:
        warnings.warn(
            f"{name}: no checksum is known of {len(unchecked)} of its {len(wanted)} files: "
            "unchecked",
            DataWarning,
            stacklevel=2,
        )
    return folder


def download(
    url: str, target: Path, *, limit: int, sha256: str | None = None, timeout: float = _TIMEOUT
) -> int:
    """Fetch `url` to `target` and return its size in bytes; a `target` already there is kept.

    limit: bytes that the file may have, by what the server declares and by what it sends.
    sha256: hex digits, None = not known, so not checked.

    Raises DataError for an answer that is no file, a connection that fails or ends early, a file
    that is too large or has another SHA-256; UsageError for another scheme than http and https;
    OutputError where the disk refuses. Of a file that is not whole nothing is left.
    """
    import pooch
    import requests

    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url} is not an address of http or https", remedy="Give one.")
    pooch.get_logger().setLevel("WARNING")

    def get(url: str, output_file: str, _: object) -> None:
        headers = {"User-Agent": "imdiffusion", "Accept-Encoding": "identity"}
        with (
            requests.get(url, stream=True, timeout=timeout, headers=headers) as response,
            Path(output_file).open("wb") as file,
        ):
            response.raise_for_status()
            declared = int(response.headers.get("Content-Length") or 0)
            if declared > limit:
                raise _too_large(url, f"{declared:,} bytes", limit)
            for piece in response.iter_content(_PIECE):
                if file.write(piece) and file.tell() > limit:
                    raise _too_large(url, "more bytes", limit)

    try:
        pooch.retrieve(url, sha256, fname=target.name, path=target.parent, downloader=get)
    except requests.HTTPError as error:
        status, reason = (getattr(error.response, name) for name in ("status_code", "reason"))
        raise DataError(
            f"{url}: the server answered {status} {reason}", remedy=_advice(status)
        ) from error
    except requests.RequestException as error:
        raise DataError(
            f"{url} did not arrive: {error}", remedy="Call again: whole files are kept."
        ) from error
    except DataError:
        raise
    except ValueError as error:  # how pooch says that the checksum is another
        raise DataError(
            f"{url} is not the file that is known: its SHA-256 is another",
            remedy="It was deleted. Call again; if it stays so, the home has changed the file.",
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}",
            remedy="Free some space, or name another folder.",
        ) from error
    size = target.stat().st_size
    if size > limit:  # kept from an earlier call
        raise _too_large(url, f"{size:,} bytes", limit)
    return size


def _too_large(url: str, size: str, limit: int) -> DataError:
    return DataError(
        f"{url} has {size}, and {limit:,} are left of what may be downloaded",
        remedy="Raise the limit, if that is what you expect.",
    )


def _advice(status: int) -> str:
    if status in (401, 403):
        return "It is not public there: ask its publisher, and import your copy."
    if status == 429 or status >= 500:
        return "Try again later: whole files are kept."
    return "The home may have moved it: find it by hand, and import your copy."


def _wanted(home: Home, root: Path, name: str, drafts: Path) -> list[str]:
    """The files of entities that are not there yet; OutputError where all of them are.

    Of the others no draft of an earlier call is left, for the import would find half an entity.
    """
    there = room_for(root, name)
    wanted = [file for file in home.files if Path(file).stem not in there]
    if not wanted:
        raise all_there(root, name)
    for file in set(home.files) - set(wanted):
        (drafts / file).unlink(missing_ok=True)
    return wanted


def _imported(
    name: str, drafts: Path, root: Path, about: Mapping[str, object], unchecked: Sequence[str]
) -> Path:
    """Import; where that fails, what may be behind it goes: files without a known checksum."""
    try:
        return import_official(name, drafts, root, about=about)
    except DataError as error:
        if not unchecked:
            raise
        for file in unchecked:
            (drafts / file).unlink(missing_ok=True)
        raise DataError(
            error.what,
            remedy=f"The {len(unchecked)} files without a known checksum were deleted: call again.",
        ) from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}: {error.strerror}", remedy="Name another folder."
        ) from error


def _home(name: str) -> Home:
    if one_of("data set", name, DATASETS) not in HOMES:
        how = "import the files" if name in OFFICIAL else "convert it to the layout of the others"
        raise DataError(
            f"the data set {name} cannot be fetched",
            remedy=f"Its home: {DATASETS[name].home}. Get it there, and {how}.",
        )
    return HOMES[name]


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Hold the lock `path`: two downloads into one file would mix."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"{name} is being fetched already", remedy="Wait for that to end."
            ) from error
        yield
