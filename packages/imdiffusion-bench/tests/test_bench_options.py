"""The plan that the options of `bench run` make: sets, entities, rows, seeds and settings."""

import pytest
from tiny_data import write_set

from imdiffusion.errors import ConfigError, DataError, UsageError
from imdiffusion_bench.options import plan_of
from imdiffusion_bench.plan import PAPER_OWN, Variant
from imdiffusion_bench.runner import groups_of
from imdiffusion_bench.studies import named_plan


def made_of(name=None, *overrides, root=None, **options):
    given = {"sets": None, "entities": None, "detectors": None, "seeds": None} | options
    return plan_of(name, **given, overrides=overrides, root=root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """SMD with two machines; MSL with one entity of its own and one of the same name."""
    folder = tmp_path_factory.mktemp("data")
    write_set(folder)
    return write_set(folder, "MSL", entities=("C-1", "machine-1-1"))


def test_a_plan_without_options_is_itself():
    assert made_of("paper_three") == named_plan("paper_three")


@pytest.mark.parametrize(
    ("sets", "found"),
    [
        ("SMD, MSL,SMD", ("SMD", "MSL")),
        (
            "SMD,generated:noise=0.2,channels=3,series=2,MSL",
            ("SMD", "generated:noise=0.2,channels=3,series=2", "MSL"),
        ),
        ("generated:noise=0.2,generated:noise=0.3", ("generated:noise=0.2", "generated:noise=0.3")),
        ("generated,SMD", ("generated", "SMD")),
    ],
)
def test_dials_stay_with_the_generated_set_before_them(sets, found):
    assert made_of(sets=sets, detectors="random").datasets == found


def test_a_generated_set_with_dials_is_measured_as_asked():
    name = "generated:noise=0.2,channels=3,series=2"
    for entity in ("s1", f"{name}/s1"):
        made = made_of(sets=name, detectors="zscore", entities=entity)
        (group,) = groups_of(made, None)
        assert (group.dataset, group.entity) == (name, "s1")
    with pytest.raises(ConfigError, match="unknown dial 'channls'"):
        groups_of(made_of(sets="generated:noise=0.2,channls=3", detectors="zscore"), None)


def test_seeds_and_rows_come_once_and_in_order():
    made = made_of("one_liners", seeds="3,0-2,2-4", detectors="pca,random, pca")
    assert made.seeds == (3, 0, 1, 2, 4)
    assert [one.detector for one in made.variants] == ["pca", "random"]
    assert made.variants == tuple(
        one
        for row in ("pca", "random")
        for one in named_plan("one_liners").variants
        if one.detector == row
    )
    papers = made_of("ablations_three", detectors="random,zscore").variants
    assert papers == (named_plan("ablations_three").variants[-1], Variant("zscore", "zscore"))
    for seeds in ("5-2", "1-", "-1", "²", "1--2", ",", ""):
        with pytest.raises(UsageError, match="--seeds"):
            made_of("one_liners", seeds=seeds)


def test_an_entity_goes_to_every_set_that_has_it(root):
    def entities(text):
        return made_of(sets="SMD,MSL", detectors="random", entities=text, root=root).entities

    assert entities("machine-1-1") == {"SMD": ("machine-1-1",), "MSL": ("machine-1-1",)}
    assert entities("MSL/machine-1-1") == {"MSL": ("machine-1-1",)}
    assert entities("C-1,machine-1-2,C-1") == {"SMD": ("machine-1-2",), "MSL": ("C-1",)}
    # A set that has none of them is left out.
    made = made_of(sets="SMD,MSL", detectors="random", entities="C-1", root=root)
    assert made.datasets == ("MSL",)
    assert {group.entity for group in groups_of(made, root)} == {"C-1"}
    with pytest.raises(UsageError, match=r"machine-1-3: no such entity in any .* 'machine-1-"):
        entities("machine-1-3")
    with pytest.raises(UsageError, match="C-1: no such entity in SMD"):
        entities("SMD/C-1")
    with pytest.raises(UsageError, match=r"GCP is none of the data sets\. They are SMD, MSL"):
        entities("GCP/service0")
    with pytest.raises(DataError, match="needs the folder"):
        made_of(sets="SMD", detectors="random", entities="machine-1-1")


def test_a_setting_reaches_the_rows_that_know_it():
    made = made_of(None, "window=50", "alarm_rate=0.01", sets="SMD", detectors="fast,random")
    fast, random = made.variants
    assert (fast.name, fast.settings) == (
        "fast, window=50, alarm_rate=0.01",
        {"window": 50, "alarm_rate": 0.01},
    )
    assert (random.name, random.settings) == ("random, alarm_rate=0.01", {"alarm_rate": 0.01})
    # A plan that holds baselines can be capped; they stay the question that they were.
    paper, random = made_of("paper", "max_steps=600").variants
    assert paper.settings == {"max_steps": 600}
    assert random == named_plan("paper").variants[1]


@pytest.mark.parametrize(
    ("rows", "pair", "told"),
    [
        ("random,zscore", "window=50", "detector 'random': unknown setting 'window'"),
        ("fast", "seed=2", "unknown setting 'seed'"),
        ("fast", "windw=2", "unknown setting 'windw'"),
        ("fst", "window=50", "unknown detector 'fst'"),
    ],
)
def test_a_setting_that_no_row_knows_is_refused(rows, pair, told):
    with pytest.raises(ConfigError, match=told):
        made_of(None, pair, sets="SMD", detectors=rows)


def test_the_papers_own_settings_hold_where_its_row_is_asked_for_by_name(root):
    made = made_of(sets="SMD,SMD-concatenated,MSL", detectors="paper,fast", root=root)
    assert made.own == PAPER_OWN
    reduce = {
        (group.dataset, one.detector): one.settings.get("reduce")
        for group in groups_of(made, root)
        for one in group.variants
    }
    assert reduce == {
        ("SMD", "paper"): "max",
        ("SMD-concatenated", "paper"): "max",
        ("MSL", "paper"): None,
        **{(name, "fast"): None for name in made.datasets},
    }
    assert made_of("one_liners", detectors="paper").own == PAPER_OWN
    assert made_of("one_liners").own == {}


def test_a_folder_that_is_not_there_stops_only_what_needs_it(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        made_of("one_liners", root=tmp_path / "none")
    assert made_of("small", root=tmp_path / "none") == named_plan("small")
