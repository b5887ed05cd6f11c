"""Documents: pages from the runs that are there, whole or not at all, answers kept."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_data import write_set

from imdiffusion.errors import DataError, OutputError
from imdiffusion_bench import documents, record
from imdiffusion_bench.aggregate import KINDS, kinds_table
from imdiffusion_bench.documents import write_results
from imdiffusion_bench.measure import question_id
from imdiffusion_bench.plan import RANDOM, Plan, Variant
from imdiffusion_bench.published import shortfall, uncapped_steps
from imdiffusion_bench.runner import bench, gaps
from imdiffusion_bench.studies import named_plan, study
from imdiffusion_bench.tables import headline_tables

WHOLE = dict(documents.PAGES)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Runs of the small plan and of a study, by their cheapest row."""
    folder = tmp_path_factory.mktemp("runs")
    for asked in (named_plan("small"), study("imbalance").plan):
        cheap = replace(asked, variants=(Variant("random", "random"),), seeds=(0,))
        name = asked.name.replace(":", "_")
        bench(cheap, folder / f"{name}.jsonl", threads=1, device="cpu")
    return folder


@pytest.fixture
def docs(tmp_path, measured, monkeypatch):
    """A folder of documents with one page of the small plan, and the studies."""
    (tmp_path / "results" / "runs").mkdir(parents=True)
    for path in measured.iterdir():
        (tmp_path / "results" / "runs" / path.name).write_bytes(path.read_bytes())
    parts = (lambda records: headline_tables(records, protocol="label_free"),)
    mine = ("Mine", ("small", "headline"), parts, lambda _: True)
    pages = {"mine": mine, "none": ("-", ("paper",), parts, lambda _: True)}
    monkeypatch.setattr(documents, "PAGES", pages)
    return tmp_path


def test_a_page_stands_as_long_as_its_runs_do(docs):
    results = docs / "results"
    for name in ("none.md", "by hand.md"):
        (results / name).write_text("old")
    write_results(docs)
    text = (results / "mine.md").read_text()
    assert text.startswith("# Mine\n")
    assert "bench run small --out docs/results/runs/small.jsonl" in text  # its data are made
    assert re.search(r"some \d+ minutes on one core", text)
    runs = list(record.read([documents.runs_of(docs, "small")]))
    assert "bench run paper --data DATA --out" in documents.source(docs, "x", runs, ("paper",))
    assert "bench run headline" not in text  # it was not measured
    assert "- `small`: 1 of 5 runs are there." in text
    assert "- `headline`: 0 of 0 runs are there. Of unknown size: SMD, GCP, ASD, MSL, SMAP." in text
    assert "| random |" in text
    written = {path.name for path in results.iterdir() if path.is_file()}
    assert written == {"mine.md", "by hand.md", "README.md"}
    record.pack(documents.runs_of(docs, "small"))
    write_results(docs)
    assert (results / "mine.md").read_text() == text  # packed or not
    record._halves(documents.runs_of(docs, "small"))[0].unlink()
    write_results(docs)
    assert not (results / "mine.md").exists()


def test_the_index_lists_what_there_is_and_nothing_else(docs):
    write_results(docs)
    text = (docs / "results" / "README.md").read_text()
    assert "- [Mine](mine.md)\n" in text
    assert "none.md" not in text
    assert re.findall(r"\.\./studies/(\w+)\.md", text)[0] == "imbalance"
    assert "gratings.md" not in text


def test_an_answer_written_by_hand_is_kept(docs):
    write_results(docs)
    page, plot = (docs / "studies" / f"imbalance.{kind}" for kind in ("md", "svg"))
    assert "## Answer\n\nNot written yet.\n" in page.read_text()
    assert "runs/study_imbalance.jsonl" in page.read_text()
    assert "<svg " in plot.read_text()
    page.write_text(page.read_text().replace("Not written yet.", "It does.\n\nMostly."))
    write_results(docs)
    assert "## Answer\n\nIt does.\n\nMostly.\n\n## Set-up\n" in page.read_text()
    documents.runs_of(docs, "study:imbalance").unlink()
    write_results(docs)
    assert "Mostly." in page.read_text()


def test_what_cannot_be_written_leaves_the_old_page_whole(docs, monkeypatch):
    write_results(docs)
    page = docs / "results" / "mine.md"
    before = page.read_text()

    def cut(self, text, **_):
        self.write_bytes(text.encode()[:20])
        raise OSError("the disk is gone")

    monkeypatch.setattr(Path, "write_text", cut)
    with pytest.raises(OutputError, match="the disk is gone"):
        write_results(docs)
    assert page.read_text() == before


# -- what is missing, and what is missed

KNOWN = {"SMD": ["machine-1-1", "machine-1-2"]}
TWO = Plan("mine", ("SMD",), (Variant("random", "random"), Variant("zscore", "zscore")), (0, 1))


def run(entity, variant, seed, **changed):
    id_ = question_id("SMD", entity, Variant(variant, variant), seed)
    return {
        "id": id_,
        "dataset": "SMD",
        "entity": entity,
        "variant": variant,
        "detector": variant,
        "seed": seed,
        "status": "ok",
        **changed,
    }


def test_what_is_missing_is_said_in_full():
    # What no seed changes is asked once: 2 entities x (2 seeds of one row + 1 of the other).
    whole = [run(one, "random", seed) for one in KNOWN["SMD"] for seed in (0, 1)]
    whole += [run(one, "zscore", 0) for one in KNOWN["SMD"]]
    assert gaps(TWO, whole, KNOWN) == "`mine`: all 6 runs are there."
    assert gaps(TWO, [], KNOWN) == (
        "`mine`: 0 of 6 runs are there. Missing: SMD 6 of 6 (seeds 0–1)."
    )
    failed = [*whole[:1], run("machine-1-1", "random", 1, status="failed")]
    assert "2 of 6 runs are there, 1 of which failed. Missing: SMD 4 of 6" in gaps(
        TWO, failed, KNOWN
    )
    ended = [*whole[:1], run("machine-1-1", "random", 1, status="failed"), *whole[2:]]
    assert gaps(TWO, ended, KNOWN) == "`mine`: all 6 runs are there, 1 of which failed."
    # Under other settings it is another question, and is said to be.
    other = [{**one, "id": "0" * 16} for one in whole[:2]] + whole[2:]
    assert gaps(TWO, other, KNOWN) == (
        "`mine`: 4 of 6 runs are there. Missing: SMD 2 of 6 (seeds 0–1). 2 runs were made under "
        "settings that are no longer the plan's."
    )
    assert gaps(TWO, whole, {}).endswith("Of unknown size: SMD.")
    named = replace(TWO, entities={"SMD": ("machine-1-2",)})
    assert gaps(named, whole, {}) == "`mine`: all 3 runs are there."


def paper_run(entity, row, seed, f1, **changed):
    settings = {"max_steps": 600, "max_epochs": 500, "batch_size": 10, "window": 100}
    settings |= {"train_stride": 1, "holdout": 0.0, "patch_length": 10}
    return run(entity, row, seed) | {
        "settings": settings if row == "paper" else {},
        "rows": {"train": 1099, "test": 500},
        "seconds": {"fit": 1.0, "score": 1.0},
        "memory_mib": 1.0,
        "warnings": ["training ended after 600 steps: the held-out error still fell"],
        "metrics": {"paper": {"f1": f1, "r_auc_pr": 0.5}},
        **changed,
    }


def test_each_published_figure_is_reached_or_missed_and_why_is_counted():
    runs = [paper_run(one, "paper", 0, 0.9488 - 0.2) for one in KNOWN["SMD"]]
    runs[1]["warnings"] = []
    runs += [paper_run(one, "random", 0, 0.6) for one in KNOWN["SMD"]]
    text = shortfall(runs)
    assert "| SMD | F1 | 0.9488 | 0.749 | missed by 0.200 | 0.600 | – |" in text
    assert "| SMD | R-AUC-PR | 0.3821 | 0.500 | reached, and random scores have more |" in text
    # 1,000 windows in batches of 10, 500 times over: 50,000 steps.
    assert uncapped_steps(runs[0]) == 50_000
    assert "600 steps instead of up to 50,000 (1.20%)" in text
    assert "still falling at the end of 1 of 2 runs" in text
    assert "patches of 10 rows instead of 1" in text
    assert "2 entities of 28" in text  # what was published is of more machines than there are here
    assert "joins all of them" not in text
    assert "joins all of them" in shortfall([{**one, "dataset": "MSL"} for one in runs])
    assert shortfall(runs[2:]) == ""
    assert shortfall([{**one, "dataset": "ASD"} for one in runs]) == ""  # nothing was published


def test_kinds_are_read_off_with_what_was_wanted():
    def kind(title, row, value, seed=0):
        metrics = {"label_free": {"auc_pr": value}}
        return run("s0", row, seed) | {"dataset": KINDS[title], "metrics": metrics}

    runs = [kind(title, "fast", 0.95) for title in KINDS if title != "trend"]
    runs += [kind("trend", "fast", 0.5), kind("trend", "fast", 0.6, 1), kind("trend", "pca", 0.7)]
    text = kinds_table(runs)
    assert "- trend: fast 0.550, the best other row pca 0.700; wanted 0.90: missed." in text
    assert "- spike: fast 0.950, the best other row –; wanted 0.90: reached." in text
    assert "- linear ties broken: fast 0.950, the best other row –." in text
    assert text.index("| fast |") < text.index("| pca |")
    assert "0.550 ± 0.071" in text
    with pytest.raises(DataError, match="no run of 'fast'"):
        kinds_table(runs[-1:])
    with pytest.raises(DataError, match="no run of the study"):
        kinds_table([run("machine-1-1", "random", 0)])


def test_the_pages_of_few_entities_are_made_of_runs_of_those_alone(docs, tmp_path, monkeypatch):
    pages = {name: WHOLE[name] for name in ("ablations", "peers")}
    monkeypatch.setattr(documents, "PAGES", pages)
    root = write_set(tmp_path, entities=("machine-1-2", "machine-1-9"))
    network = {"window": 20, "patch_length": 5, "width": 8, "layers": 1, "heads": 2, "max_steps": 4}
    network |= {"diffusion_steps": 4, "sampling_steps": 4, "stride": 10}
    base = Variant("base", "paper", {**network, "ensemble_steps": 2, "ensemble_every": 1})
    rows = {"a peer, 1 epoch": "pca", "zscore": "zscore"}
    variants = (base, *(Variant(name, row) for name, row in rows.items()), RANDOM)
    out = tmp_path / "all.jsonl"
    bench(Plan("p", ("SMD",), variants), out, root=root, threads=1, device="cpu")
    plans = {"base": "ablations_three", "a peer, 1 epoch": "peers_three"}
    for one in record.read([out]):  # each as if its own plan had measured it
        names = plans.get(one["variant"], "one_liners"), "ablations_three"
        for name in names if one["variant"] == "random" else names[:1]:
            if name == "one_liners" or one["entity"] == "machine-1-2":
                record.append(documents.runs_of(docs, name), {**one, "plan": name})
    before = "# Before\n\n## Answer\n\nBy hand.\n\n## Tables\n\nas it was"
    (docs / "results" / "ablations.md").write_text(before)
    write_results(docs)
    ablations, peers = ((docs / "results" / f"{name}.md").read_text() for name in pages)
    assert "\n## Answer\n\nBy hand.\n\n## Tables\n" in ablations
    assert "as it was" not in ablations
    assert "| base |" in ablations
    assert "| random |" in ablations  # point-adjusted numbers do not stand without it
    assert "zscore" not in ablations
    assert "machine-1-9" not in ablations + peers
    # Tiny networks answer nothing of the plan's; random scores do.
    assert "- `ablations_three`: 1 of" in ablations
    assert "| zscore |" in peers
    assert "| a peer, 1 epoch |" in peers
    assert "- `headline`: 0 of 10 runs are there." in peers
