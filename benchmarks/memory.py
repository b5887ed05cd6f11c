"""Peak memory and time of scoring a Parquet file of 10^4 to 10^7 rows x 38 channels.

Each length is scored in a process of its own from the same saved model; the peak is the resident
set the kernel reports for it. Time is that of a second call. Goals: the peak does not grow with the
length and stays under 1 GB; time a row is the same for all lengths.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ledger
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imdiffusion import ImDiffusion

CHANNELS = 38
SCORE = """
import json, resource, sys, time
from imdiffusion import ImDiffusion
detector = ImDiffusion.load(sys.argv[1], device="cpu")
detector.decision_function(sys.argv[3])  # a first call costs a process a quarter of a second
start = time.perf_counter()
score = detector.decision_function(sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"rows": len(score), "peak_mib": round(peak),
                  "points_per_s": round(len(score) / (time.perf_counter() - start))}))
"""


def write_series(path: Path, rows: int, block: int = 50_000) -> None:
    """A Parquet file of coupled waves with noise, written in blocks."""
    names = [f"c{k}" for k in range(CHANNELS)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    generator = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, block):
            at = np.arange(start, min(rows, start + block))[:, None]
            values = np.sin(at / np.linspace(5, 90, CHANNELS))
            values = (values + 0.1 * generator.normal(size=values.shape)).astype(np.float32)
            writer.write_table(pa.table(dict(zip(names, values.T, strict=True)), schema=schema))


def main() -> None:
    """Fit a model of the default size for a few steps, then score each length."""
    small = ledger.small()

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.parquet"
        write_series(train, 2_000)
        start = time.perf_counter()
        detector = ImDiffusion(max_steps=5, validate_every=5)
        detector.fit(train).save(Path(folder) / "model")
        print(f"a model of the default size after {time.perf_counter() - start:.0f} s")
        for exponent in (3, 4) if small else (4, 5, 6, 7):
            path = Path(folder) / f"{exponent}.parquet"
            write_series(path, 10**exponent)
            command = [
                sys.executable,
                "-c",
                SCORE,
                str(Path(folder) / "model"),
                str(path),
                str(train),
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
            print(rows[-1], flush=True)
    ledger.keep("memory", rows, small=small)


if __name__ == "__main__":
    main()
