"""How far scoring is from what the machine can do: its matrix rate, its memory, where time goes.

The roof is measured in the same run: products of square float32 and bfloat16 matrices, and a copy
that no cache holds. A network call is then told in floating-point operations (torch counts them),
in operations a second, and as a share of the roof. `whole` is the scoring of a series, all of it:
what it falls short of `network` are windows and the score itself. On a CUDA device the same.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial

import ledger
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from imdiffusion import ImDiffusion

CHANNELS = 38
PAPER = {"patch_length": 10}  # the paper's own network takes many minutes a call on a processor


def seconds(call: Callable[[], object], times: int) -> float:
    """The fastest of so many calls, after one to warm up."""
    call()
    taken = []
    for _ in range(times):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


def roof(device: str, small: bool) -> dict[str, float]:
    """GFLOP/s of matrix products by type, and GB/s of a copy (read and written)."""
    size, length = (256, 1_000_000) if small else (2_048, 100_000_000)
    times = 1 if small else 5
    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.ones(size, size, dtype=kind, device=device)
        taken = seconds(partial(torch.matmul, a, a), times)
        found[f"{name}_gflops"] = round(2 * size**3 / taken / 1e9, 1)
    long = torch.ones(length, device=device)
    target = torch.empty_like(long)
    found["copy_gb_s"] = round(8 * length / seconds(lambda: target.copy_(long), times) / 1e9, 1)
    return found


def measure(name: str, rows: int, fp32: float, times: int, **settings: object) -> dict[str, object]:
    """One preset: operations of a row, of the network alone and of the whole, beside the roof."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(rows, CHANNELS)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise does not converge
        detector = ImDiffusion(**settings, max_steps=2, validate_every=2).fit(values[:400])  # type: ignore[arg-type]
    entity = detector.entity()
    imputer, length = entity.imputer, entity.settings.window
    batch = imputer.batch
    shape = (batch, length, CHANNELS)
    x0 = torch.from_numpy(rng.normal(size=shape).astype(np.float32)).to(imputer.device)
    observed = torch.ones_like(x0, dtype=torch.bool)
    keys = torch.arange(batch * length, device=imputer.device).view(batch, length)

    def call() -> None:
        for _ in imputer.windows(x0, observed, keys):
            pass

    with FlopCounterMode(display=False) as counter:
        call()
    stride = entity.settings.stride or length
    flops = counter.get_total_flops() / (batch * stride)
    network = batch * stride / seconds(call, times)
    whole = rows / seconds(lambda: detector.decision_function(values), times)
    return {
        "preset": name,
        "mflop_a_row": round(flops / 1e6, 2),
        "network_rows_per_s": round(network),
        "network_gflops": round(network * flops / 1e9, 1),
        "share_of_fp32": round(network * flops / 1e9 / fp32, 3),
        "whole_rows_per_s": round(whole),
    }


def main() -> None:
    """Measure the roof, then both presets, and keep the rows."""
    small = ledger.small()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    top = roof(device, small)
    threads = torch.get_num_threads()
    rows: list[dict[str, object]] = [{"what": f"roof of {device}, {threads} threads", **top}]
    rows.append(measure("fast", 800 if small else 20_000, top["fp32_gflops"], 5))
    few = {"sampling_steps": 2, "ensemble_steps": 1} if small else {}
    capped = measure(
        "paper, patches of 10", 200 if small else 400, top["fp32_gflops"], 1,
        preset="paper", **PAPER, **few,
    )  # fmt: skip
    ledger.keep("roofline", [*rows, capped], small=small)


if __name__ == "__main__":
    main()
