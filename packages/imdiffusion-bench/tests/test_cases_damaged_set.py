"""A benchmark set with a file that is damaged halfway: its runs fail by name, the rest goes on."""

import pytest
from tiny_data import write_set

from imdiffusion_bench import record
from imdiffusion_bench.plan import Plan, Variant
from imdiffusion_bench.runner import bench


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def scribbled(data: bytes) -> bytes:
    """The end of the file, which says what is where, is whole; what is there is not."""
    half = len(data) // 2
    return data[:4] + b"\xff" * (half - 4) + data[half:]


@pytest.mark.parametrize(("part", "damage"), [("train", truncated), ("test", scribbled)])
def test_a_set_that_breaks_halfway_fails_there_and_goes_on(tmp_path, part, damage):
    names = ("machine-1-1", "machine-1-2", "machine-1-3")
    root, out = write_set(tmp_path, entities=names), tmp_path / "runs.jsonl"
    file = root / "SMD" / names[1] / f"{part}.parquet"
    file.write_bytes(damage(file.read_bytes()))
    variants = (Variant("linear", "linear"), Variant("zscore", "zscore"))
    asked = Plan("p", ("SMD",), variants)
    state = bench(asked, out, root=root, threads=1, device="cpu")
    assert (state.done, state.failed) == (4, 2)
    for one in record.read([out]):
        if one["entity"] == names[1]:
            assert (one["status"], one["stage"]) == ("failed", "load")
            assert f"{names[1]}/{part}.parquet" in one["error"]["message"]
            assert "metrics" not in one  # no run that failed counts as one that found nothing
        else:
            assert one["status"] == "ok"
            assert one["metrics"]
    # Once the file is whole again, what failed is all that is measured.
    write_set(tmp_path, entities=names)
    again = bench(asked, out, root=root, threads=1, device="cpu", retry_failed=True)
    assert (again.found, again.done, again.failed) == (4, 2, 0)
