"""The page about a benchmark: what it shows, what it refuses, that nothing in it points outside."""

import importlib.util
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from imdiffusion_bench.page import write_page
from imdiffusion_bench.page.plots import means_plot, ranks_plot, speed_plot
from imdiffusion_bench.page.svg import safe, short_names, shortened, text_width, ticks
from imdiffusion_bench.plans import PLANS, plan
from imdiffusion_bench.studies import STUDIES
from imdiffusion_bench.summary import summarise
from imdiffusion_bench.tables import comparison

from imdiffusion.errors import DataError, OutputError

EVIL = '</title></svg><script>alert("1")</script><img src=x onerror=alert(2)>'
LEVELS = {"fast": 0.5, "mahalanobis_30": 0.45, "peer:gdn": 0.3, "random": 0.1}
SPEEDS = {"fast": 800.0, "mahalanobis_30": 1e6, "peer:gdn": 5000.0, "random": 2e6}
VOID = {"meta"}


def run(variant, entity, seed, *, dataset="SET", row=None, value=None):
    value = LEVELS.get(variant, 0.4) + entity / 100 + seed / 1000 if value is None else value
    return {
        "dataset": dataset,
        "entity": f"e{entity}",
        "variant": variant,
        "row": row or variant,
        "seed": seed,
        "settings": {},
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "commit": "abc123+",
        "host": {"cpu": "A processor", "cores": 2, "memory_gib": 8, "gpu": None},
        "device": "cpu",
        "threads": 1,
        "date": "2026-11-23T10:00:00+00:00",
        "status": "ok",
        "rows": {"train": 100, "test": 1000},
        "seconds": {"fit": 10.0, "score": 1000 / SPEEDS.get(variant, 100.0)},
        "memory_mib": 100.0,
        "metrics": {
            "label_free": {"vus_pr": value, "auc_pr": value, "add": 5.0},
            "paper": {"f1": 0.9, "add": 4.0},
        },
    }


def failed(variant, entity, seed, message):
    whole = run(variant, entity, seed)
    kept = {key: whole[key] for key in whole if key not in ("metrics", "rows", "seconds")}
    error = {"type": "ValueError", "message": message}
    return {**kept, "status": "failed", "stage": "score", "error": error}


def runs(**options):
    return [run(v, e, s, **options) for v in LEVELS for e in range(8) for s in (0, 1, 2)]


def written(records, tmp_path, title="A benchmark"):
    return write_page(records, tmp_path / "page.html", title=title).read_text(encoding="utf-8")


class Tree(HTMLParser):
    """Every element with its attributes; `open` is empty at the end if all were closed in order."""

    def __init__(self):
        super().__init__()
        self.found, self.open, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def tree(text):
    parser = Tree()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_a_section_a_protocol_with_table_plots_and_machine(tmp_path):
    text = written([*runs(), *runs(dataset="OTHER")], tmp_path)
    assert re.findall(r"<h2[^>]*>([^<]*)", text) == [
        "Protocol label free",
        "Protocol paper",
        "Versions and machines",
    ]
    found = tree(text).found
    names = [tag for tag, _ in found]
    # per protocol: all data sets side by side, then two tables; and one of machines
    assert names.count("table") == names.count("caption") == 2 * 3 + 1
    assert names.count("svg") == names.count("figcaption") == 2 * 2 * 3
    assert all(a["role"] == "img" and a["aria-label"] for t, a in found if t == "svg")
    assert names.count("title") > 1  # the page's own, and those of dots
    assert "A processor, 2 cores, 8 GiB" in text
    assert "abc123+" in text
    assert "torch 2.13.0" in text
    assert "VUS-PR, buffer 100&nbsp;↑" in text
    # fast on SET: .5 + mean of 0..7 hundredths + seeds 0, 1, 2 thousandths, whose spread is .001
    assert "<td>0.536 ± 0.001</td>" in text


def test_nothing_in_the_page_points_outside_or_runs(tmp_path):
    text = written(runs(), tmp_path)
    found = tree(text).found
    assert not {tag for tag, _ in found} & {"script", "link", "img", "iframe", "object", "form"}
    addresses = [a[key] for _, a in found for key in ("href", "src", "xlink:href") if key in a]
    assert addresses
    assert all(one.startswith("#") for one in addresses)
    assert "//" not in text
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for _, a in found if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_hostile_names_stay_words(tmp_path):
    one = run(EVIL, 0, 0, dataset=EVIL, value=0.5)
    bad = {**failed("fast", 1, 0, EVIL), "dataset": EVIL, "entity": EVIL}
    noise = run("random", 0, 0, dataset=EVIL)
    odd = {**run("x", 0, 0, dataset=EVIL), "commit": EVIL, "host": {"cpu": EVIL}, "date": EVIL}
    odd["versions"] = {EVIL: EVIL}
    odd["metrics"] = {**odd["metrics"], EVIL: {EVIL: 0.5}}
    text = written([one, bad, noise, odd], tmp_path, title=EVIL)
    found = tree(text)
    assert not {tag for tag, _ in found.found} & {"script", "img"}
    assert not any(key.startswith("on") for _, a in found.found for key in a)
    assert found.words.count(EVIL) > 5  # and are read as they are


def test_failed_and_missing_runs_are_listed(tmp_path):
    records = [one for one in runs() if (one["variant"], one["entity"]) != ("peer:gdn", "e3")]
    records += [failed("peer:gdn", 3, seed, "no memory") for seed in (0, 1)]
    text = written(records, tmp_path)
    assert "<dt>failed</dt><dd>2</dd>" in text
    assert "<dt>missing</dt><dd>1</dd>" in text
    assert text.count("ValueError: no memory</td>") == 2
    assert "2 of 95 runs failed" in text
    assert "hollow" in text.partition("<body>")[2]


def test_a_page_of_failures_alone_says_so(tmp_path):
    text = written([failed("fast", 0, 0, "one"), failed("pca", 1, 0, "two")], tmp_path)
    assert "<dt>failed</dt><dd>2</dd>" in text
    assert "<dt>missing</dt><dd>2</dd>" in text
    assert "<svg" not in text


def test_point_adjusted_numbers_without_a_random_row_are_not_shown(tmp_path):
    text = written([one for one in runs() if one["variant"] != "random"], tmp_path)
    section = text[text.index('id="protocol-paper"') : text.index('id="machines"')]
    assert "<table" not in section
    assert "<svg" not in section
    assert "without a random row" in section
    assert "<table" in text[: text.index('id="protocol-paper"')]


def block_of(records):
    (block,) = summarise(records, protocol="label_free", metrics=["vus_pr"]).blocks
    return block


def places(plot, kind):
    return [float(x) for x in re.findall(rf'<circle cx="([\d.]+)"[^>]*class="{kind}"', plot)]


def test_means_lie_in_proportion_with_a_dot_a_seed():
    plot = means_plot(block_of(runs()), "vus_pr")
    (ours,), (noise,), (peer,) = (places(plot, k) for k in ("ours", "noise", "peer"))
    zero = float(re.search(r'<line x1="([\d.]+)"[^>]*class="bar ours"', plot)[1])
    # fast .536, peer .336, random .136 (means over 8 entities and 3 seeds)
    assert (noise - zero) / (ours - zero) == pytest.approx(0.136 / 0.536, abs=2e-3)
    assert (peer - zero) / (ours - zero) == pytest.approx(0.336 / 0.536, abs=2e-3)
    assert len(places(plot, "seed ours")) == 3
    assert "seed 2: 0.537" in plot


def test_ranks_lie_in_order_with_the_difference_as_a_line():
    block = block_of(runs())
    found = comparison(block, "vus_pr")
    plot = ranks_plot(block, "vus_pr", found)
    # every entity ranks alike: 1 fast, 2 mahalanobis_30, 3 peer, 4 random
    xs = [places(plot, k)[0] for k in ("ours", "other", "peer", "noise")]
    steps = np.diff(xs)
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)
    start, end = map(float, re.search(r'x1="([\d.]+)"[^>]*x2="([\d.]+)"[^>]*"axis"', plot).groups())
    assert (end - start) / steps[0] == pytest.approx(2.569 * math.sqrt(20 / 48), abs=0.01)
    spans = re.findall(r'x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" [^>]*"spread', plot)
    assert len(spans) == 4
    assert all(float(b) - float(a) == pytest.approx(end - start, abs=0.2) for a, _, b in spans)
    assert plot.count('class="group"') == len(found.groups())


def test_a_plot_is_left_out_where_it_would_say_nothing():
    few = [one for one in runs() if one["entity"] in ("e0", "e1")]
    block = block_of(few)
    assert ranks_plot(block, "vus_pr", comparison(block, "vus_pr")) == ""
    assert means_plot(block_of([failed("fast", 0, 0, "x")]), "vus_pr") == ""
    alone = block_of([one for one in few if one["variant"] == "fast"])
    assert speed_plot(alone, "vus_pr") == ""
    assert speed_plot(block, "vus_pr")


def test_speed_is_logarithmic():
    plot = speed_plot(block_of(runs()), "vus_pr")
    xs = {kind: places(plot, kind)[0] for kind in ("ours", "peer", "other")}
    per_decade = (xs["other"] - xs["peer"]) / math.log10(1e6 / 5000)
    assert xs["peer"] - xs["ours"] == pytest.approx(per_decade * math.log10(5000 / 800), abs=0.3)


@given(st.floats(0, 1), st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low, width):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 * width <= one <= low + width * (1 + 1e-6) for one in found)
    steps = np.diff(found)
    assert np.allclose(steps, steps[:1], rtol=1e-6, atol=0)


@given(st.text(max_size=60).filter(lambda name: "…" not in name), st.floats(20, 200))
def test_a_shortened_name_fits_and_keeps_both_ends(name, most):
    found = shortened(name, most)
    assert text_width(found) <= most or found == "…"
    if found != name:
        begins, _, ends = found.partition("…")
        assert name.startswith(begins)
        assert name.endswith(ends)


@pytest.mark.parametrize("most", [140, 228])
@pytest.mark.parametrize("asked", [*PLANS, *(f"study:{name}" for name in STUDIES)])
def test_the_variants_of_every_plan_stay_apart_when_shortened(asked, most):
    beside = ("paper, patches of 10, 600 steps", "standardised_mean", "random", "mahalanobis_30")
    names = [*(one.name for one in plan(asked).variants), *beside]
    found = short_names(names, most)
    assert list(found) == list(dict.fromkeys(names))
    assert len({*found.values()}) == len(found)
    assert all(text_width(text) <= most for text in found.values())
    assert all(found[name] == name for name in names if text_width(name) <= most)


@given(st.text(max_size=40))
def test_safe_text_has_no_markup_and_can_be_printed(name):
    assert not set("<>\"'") & set(safe(name))
    assert safe(name).isprintable()


def test_no_runs_and_no_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no runs"):
        write_page([], tmp_path / "page.html", title="x")
    with pytest.raises(OutputError):
        write_page(runs(), tmp_path / "absent" / "page.html", title="x")


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path):
    path = write_page(runs(), tmp_path / "page.html", title="old")
    before = path.read_bytes()
    with pytest.raises(DataError):
        write_page([*runs(), *runs()], path, title="new")
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]


# What a text of a plot overlaps: the drawing's edge, or another text of the same plot.
CROWDED = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(t => [t, t.getBoundingClientRect()]);
  const out = texts.filter(([t, b]) => b.left < frame.left - 1 || b.right > frame.right + 1
    || b.top < frame.top - 1 || b.bottom > frame.bottom + 1).map(([t]) => t.textContent);
  const met = texts.flatMap(([t, a], i) => texts.slice(i + 1).filter(([, b]) =>
    a.left + 1 < b.right && b.left + 1 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom
  ).map(([u]) => t.textContent + ' over ' + u.textContent));
  return [...out, ...met];
})"""


@pytest.mark.tool("chromium")
def test_the_page_in_a_browser_is_silent_and_fits_desk_and_phone(tmp_path):
    driver = Path(__file__).parents[1] / "report" / "chromium.py"
    spec = importlib.util.spec_from_file_location("bench_chromium", driver)
    chromium = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(chromium)
    many = runs() + [run("a rather long name of a variant, " * 2, e, 0) for e in range(8)]
    path = write_page(many, tmp_path / "page.html", title="A benchmark " * 8)
    with chromium.Chromium(1400, 900) as browser:
        for width in (1400, 390):
            browser.resize(width, 900)
            browser.call("Page.navigate", url=path.as_uri())
            browser.wait("document.readyState == 'complete' && !!document.querySelector('footer')")
            assert browser.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert browser.evaluate(CROWDED) == []
        assert browser.trouble == []
        assert {one for one in browser.requests if not one.startswith("file:")} == set()


def test_notes_stand_under_the_title_and_are_escaped(tmp_path):
    path = write_page(
        runs(), tmp_path / "page.html", title="x", notes=["`headline`: 3 of 5 <runs>"]
    )
    text = path.read_text(encoding="utf-8")
    assert '<p class="quiet"><code>headline</code>: 3 of 5 &lt;runs&gt;</p>' in text
    assert text.index("3 of 5") < text.index('<dl class="figures">')
