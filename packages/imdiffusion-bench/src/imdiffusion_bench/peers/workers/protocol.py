"""The worker's side of a peer's process: `python -I protocol.py FOLDER WORKER`.

WORKER is a file with `VERSIONS`, names of distributions, and `fit(train, job)`, which returns
`score(test)`; arrays are float64 (T, K) and finite, a score is (T,). FOLDER holds train.npy and
job.json {method, seed, epochs, steps, window, threads}; null = the worker's own choice.

After training it says one line, {"versions": {...}, "seconds": ...}; then, for each line it is
told, it scores test.npy into score.npy and says {"seconds": ...}. It ends with its input, and with
the process that started it, then taking FOLDER along. A failure ends it with another status than 0,
the reason last on stderr.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np


def serve(folder: Path, worker: Path) -> None:
    """Train once, then score until the input ends."""
    threading.Thread(target=_end_with_parent, args=(folder, os.getppid()), daemon=True).start()
    # Whatever the packages print goes to the log; the pipe carries answers alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        start = time.perf_counter()
        module = _module(worker)
        score = module.fit(np.load(folder / "train.npy", allow_pickle=False), job)
        versions = {name: version(name) for name in module.VERSIONS}
        told = {"versions": versions, "seconds": time.perf_counter() - start}
        print(json.dumps(told), file=answers, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            test = np.load(folder / "test.npy", allow_pickle=False)
            result = np.asarray(score(test))
            np.save(folder / "score.npy", result, allow_pickle=False)
            told = {"seconds": time.perf_counter() - start}
            print(json.dumps(told), file=answers, flush=True)


def _end_with_parent(folder: Path, parent: int) -> None:
    """Who was to read the answers may have been killed: an orphan would train on for an hour."""
    while os.getppid() == parent:
        time.sleep(1.0)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _module(path: Path) -> ModuleType:
    """The worker's file as a module, under a name that no package has."""
    spec = importlib.util.spec_from_file_location("peer_worker", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    serve(Path(sys.argv[1]), Path(sys.argv[2]))
