"""The document `quality`: means over sets, what is behind, the promise, what is kept by hand."""

from pathlib import Path

import pytest

from imdiffusion.errors import DataError
from imdiffusion_bench import quality

DOCS = Path(__file__).parents[3] / "docs"


def run(row, entity, value, dataset="SMD", alarm=0.01, status="ok"):
    metrics = dict.fromkeys(("vus_pr", "vus_pr_10", "auc_pr", "event_f1"), value)
    facts = {
        "dataset": dataset,
        "detector": row,
        "variant": row,
        "entity": entity,
        "status": status,
    }
    return {**facts, "metrics": {"label_free": {**metrics, "alarm_share_normal": alarm}}}


def everywhere(**rows):
    """One entity a set, the same value on all of them but for what a dict says."""
    return [
        run(row, "x", value.get(name, value["else"]) if isinstance(value, dict) else value, name)
        for row, value in rows.items()
        for name in quality.SETS
    ]


def cells(text, start):
    line = next(one for one in text.splitlines() if one.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_only_entities_that_every_row_has_count_and_the_others_are_named():
    records = [run("fast", "x", 0.5), run("fast", "y", 0.9), run("random", "x", 0.1)]
    records += [run("random", "y", 0.1, status="failed"), run("fast", "x", 1.0, dataset="PSM")]
    kept, told = quality.common(records)
    assert [(one["detector"], one["entity"]) for one in kept] == [("fast", "x"), ("random", "x")]
    assert "SMD y: no run of random." in told
    assert "GCP: no run." in told
    assert len(told) == len(quality.SETS)


def test_the_best_is_bold_and_what_is_behind_is_said():
    records = everywhere(
        fast={"GCP": 0.2, "ASD": 0.395, "else": 0.5},
        linear=0.4,
        forecast_s30={"GCP": 0.3, "else": 0.3},
        joined_logs={"GCP": 0.45, "else": 0.2},
        random=0.1,
    )
    text = quality.ranking(records, "vus_pr")
    names = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert names[:5] == ["fast", "linear", "forecast_s30", "joined_logs", "random"]
    count = len(quality.SETS)
    mean = (0.2 + 0.395 + 0.5 * (count - 2)) / count
    assert cells(text, "`fast`")[0] == "**0.500**"
    assert cells(text, "`fast`")[1:3] == ["0.200", "0.395"]
    assert cells(text, "`fast`")[-1] == f"**{mean:.3f}**"
    assert cells(text, "`linear`")[2] == "**0.400**"
    gaps = cells(text, "`fast` less the best one-liner here")
    assert gaps[:3] == ["+0.200", "-0.250", "+0.095"]
    assert gaps[-1] == f"{mean - 0.3:+.3f}"
    said = next(line for line in text.splitlines() if line.startswith("- `fast`"))
    joined = (0.45 + 0.2 * (count - 1)) / count
    assert f"{mean - 0.3:+.3f} to the best single one-liner, `forecast_s30`" in said
    assert f"{mean - joined:+.3f} to `joined_logs`" in said
    assert said.endswith("below the best row on GCP (-0.250, `joined_logs`).")


def test_a_row_that_lacks_a_set_has_no_mean():
    records = everywhere(fast=0.5, zscore=0.4)
    records = [one for one in records if (one["detector"], one["dataset"]) != ("zscore", "TEP")]
    line = cells(quality.ranking(records, "vus_pr"), "`zscore`")
    assert line[-1] == "–"
    assert line[list(quality.SETS).index("TEP")] == "–"


def test_the_promise_is_kept_from_above_and_from_both_sides():
    shares = {"a": 0.001, "b": 0.03, "c": 0.004, "d": 0.2}
    records = [run("fast", entity, 0.5, alarm=share) for entity, share in shares.items()]
    records += [run("fast", "e", 0.5, "GCP", 0.01)]
    text = quality.alarms(records)
    medians, kept = text.split("\n\n")[:2]
    assert cells(medians, "`fast`")[:3] == ["0.017", "0.010", "–"]
    assert cells(medians, "`fast`")[-1] == f"2 of {len(quality.SETS)}"
    # At most 3 times: 4 of 5; 3 of 4 and 1 of 1. Within a factor of 3: 3 of 5; 2 of 4 and 1 of 1.
    assert cells(kept, "`fast`") == ["5", "0.010", "80%", "88%", "60%", "75%"]


def test_what_the_network_is_worth_is_counted_by_entity():
    records = [run("fast", f"e{n}", 0.5 + 0.01 * n) for n in range(8)]
    records += [run("linear", f"e{n}", 0.5) for n in range(8)]
    line = cells(quality.worth(records), "SMD (8)")
    assert line[:3] == ["servers", "0.500", "0.535"]
    # e0 is a tie: seven differences of one sign, 2 / 2^7.
    assert line[-3:] == ["7", "0", "0.016"]


def test_the_page_keeps_what_is_written_by_hand(tmp_path):
    docs = tmp_path / "docs"
    (docs / "results").mkdir(parents=True)
    (docs / "studies").mkdir()
    (docs / "results" / "runs").symlink_to(DOCS / "results" / "runs")
    page, readme = docs / "studies" / "quality.md", tmp_path / "README.md"
    page.write_text("# Old\n\n## Answer\n\nBy hand.\n\n## What the labels allow\n\nAs it was.\n")
    readme.write_text("Before\n<!-- fourteen -->\n<!-- end of fourteen -->\nafter\n")
    for _ in range(2):
        quality.write_quality(docs)
        text = page.read_text()
        assert text.count("By hand.") == text.count("As it was.") == text.count(quality.LAST) == 1
        assert "## VUS-PR, buffer 10\n" in text
        short = readme.read_text().splitlines()
        assert short[0] == "Before"
        assert short[-1] == "after"
        assert len(short) == 4 + 2 + len(quality.SETS) + 1
    readme.write_text("Before\nafter\n")
    with pytest.raises(DataError, match="no place"):
        quality.write_quality(docs)
