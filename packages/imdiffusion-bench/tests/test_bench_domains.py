"""Domains left out in turn: hand-worked choices, and what cannot be chosen."""

import pytest
from tiny_runs import failed, line_of, run

from imdiffusion.errors import ConfigError, DataError
from imdiffusion_bench.aggregate import (
    DOMAIN_OF,
    DOMAINS,
    domains_table,
    leave_out,
    values_by_domain,
)
from imdiffusion_bench.datasets.known import DATASETS
from imdiffusion_bench.plan import FOURTEEN

# Means: a .55, b .60, c .58. Without human: a .75, b .60, c .62; without servers: b .60 (a .45, c
# .54); without industry: b .60 (a .45, c .58).
VALUES = {
    "a": {"servers": 0.75, "industry": 0.75, "human": 0.15},
    "b": {"servers": 0.60, "industry": 0.60, "human": 0.60},
    "c": {"servers": 0.66, "industry": 0.58, "human": 0.50},
}


def test_each_domain_is_judged_by_what_the_others_choose():
    servers, industry, human = leave_out(VALUES)
    assert (servers.domain, servers.chosen, servers.value) == ("servers", "b", 0.60)
    assert (industry.chosen, industry.value) == ("b", 0.60)
    assert (human.chosen, human.value) == ("a", 0.15)  # what a choice on the rest costs here
    assert {one.by_all for one in (servers, industry, human)} == {"b"}
    assert (servers.value_by_all, human.value_by_all) == (0.60, 0.60)
    assert (servers.best, servers.value_best, human.best) == ("a", 0.75, "b")


def test_less_can_be_better_and_the_first_of_equals_is_chosen():
    assert [one.chosen for one in leave_out(VALUES, lower_is_better=True)] == ["a", "a", "b"]
    even = {"x": {"p": 0.5, "q": 0.5}, "y": {"p": 0.5, "q": 0.5}}
    assert {one.chosen for one in leave_out(even)} == {"x"}


def test_a_choice_needs_two_domains_and_variants_that_have_them_all():
    with pytest.raises(DataError, match="none can be left out"):
        leave_out({"a": {"servers": 0.5}})
    with pytest.raises(DataError, match="none can be left out"):
        leave_out({})
    with pytest.raises(DataError, match="b has no value on the domain 'human'"):
        leave_out({"a": VALUES["a"], "b": {"servers": 0.1, "industry": 0.2}})


def made():
    """Two sets of one domain (means .5 and .8 of a), one of another; entities count in a set."""
    cells = {
        ("a", "SMD", "e1"): 0.4,
        ("a", "SMD", "e2"): 0.6,
        ("a", "GCP", "e1"): 0.8,
        ("a", "TEP", "e1"): 0.2,
        ("b", "SMD", "e1"): 0.3,
        ("b", "SMD", "e2"): 0.3,
        ("b", "GCP", "e1"): 0.5,
        ("b", "TEP", "e1"): 0.9,
    }
    return [
        run(variant, entity, dataset=dataset, vus_pr=value)
        for (variant, dataset, entity), value in cells.items()
    ]


def test_a_domain_is_the_mean_of_its_sets_and_a_set_of_its_entities():
    values, told = values_by_domain(made(), protocol="label_free", metric="vus_pr")
    assert values["a"] == pytest.approx({"servers": 0.65, "industry": 0.2})
    assert values["b"] == pytest.approx({"servers": 0.40, "industry": 0.9})
    assert told == ["servers: SMD, GCP.", "industry: TEP."]


def test_the_table_has_both_choices_and_the_means_over_domains():
    text = domains_table(made())
    assert "### VUS-PR, buffer 100 ↑, protocol `label_free`: a domain left out" in text
    # On all: a .425, b .65. Left out, servers are judged by b, industry by a.
    servers = ["servers", "b", "0.400", "0.400", "+0.000", "a", "0.650"]
    assert line_of(text, "servers") == servers
    assert line_of(text, "industry") == ["industry", "a", "0.200", "0.900", "−0.700", "b", "0.900"]
    mean = ["mean over domains", "–", "0.300", "0.650", "−0.350", "–", "0.775"]
    assert line_of(text, "mean over domains") == mean
    assert line_of(text, "b") == ["b", "0.400", "0.900", "0.650"]
    assert text.index("| b |") < text.index("| a |")


def test_what_lacks_an_entity_is_not_chosen_and_is_named():
    runs = [*made(), run("c", "e1", dataset="SMD", vus_pr=0.99), failed("c", "e2", dataset="SMD")]
    runs.append(run("a", "e1", dataset="elsewhere", vus_pr=0.1))
    text = domains_table(runs)
    assert "Not to be chosen, for entities are missing: c." in text
    assert "Of no known domain, and not counted: elsewhere." in text
    assert "| c |" not in text
    with pytest.raises(DataError, match="c has no value on every entity of SMD"):
        domains_table(runs, among=("a", "c"))
    with pytest.raises(ConfigError, match="unknown variant 'd'"):
        domains_table(runs, among=("d",))
    with pytest.raises(DataError, match="domain is known"):
        domains_table(runs[-1:])
    assert "mean over domains" in domains_table(runs, among=("a",))


def test_every_set_of_the_fourteen_has_its_domain():
    assert len(FOURTEEN) == 14
    assert set(DOMAIN_OF) >= set(FOURTEEN)
    assert {DATASETS[name].domain for name in FOURTEEN} == set(DOMAINS)
    wanted = ("servers", "spacecraft", "industry", "databases", "human", "network and cloud")
    assert wanted == DOMAINS
