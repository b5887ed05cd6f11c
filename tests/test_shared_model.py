"""One network for many entities: what is shared, what is not, and how an entity joins."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imdiffusion import ImDiffusion
from imdiffusion.data.windows import Rows
from imdiffusion.diffusion.networks import NOBODY, EntityView, SharedDenoiser
from imdiffusion.errors import (
    ConfigError,
    ConvergenceWarning,
    DataError,
    DataWarning,
    ModelError,
)
from imdiffusion.presets import resolve
from imdiffusion.progress import Progress
from imdiffusion.training import window_starts

TINY = {
    "window": 20, "patch_length": 5, "width": 8, "layers": 1, "feedforward": 8,
    "step_embedding": 8, "mask_groups": 2, "max_steps": 30, "validate_every": 10,
    "batch_size": 4, "smooth": (1, 5), "detrend": (0, 10), "entity_embedding": 4,
}  # fmt: skip


def series(seed: int, rows: int = 300) -> np.ndarray:
    at = np.arange(rows)[:, None]
    noise = np.random.default_rng(seed).normal(size=(rows, 3))
    return (1 + seed) * (np.sin(at / np.array([5.0, 7.0, 11.0])) + 0.1 * noise) + 10 * seed


@pytest.fixture(autouse=True)
def _quiet_convergence():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def fitted(**more: object) -> ImDiffusion:
    return ImDiffusion(scope="shared", **TINY, **more).fit({f"h{n}": series(n) for n in range(3)})


@pytest.fixture(scope="module")
def fleet() -> ImDiffusion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fitted()


def state(detector: ImDiffusion) -> dict[str, torch.Tensor]:
    network = detector.entity(detector.entities_[0]).imputer.network
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_members_share_weights_and_nothing_else(fleet: ImDiffusion) -> None:
    members = list(fleet._need_fit().values())
    assert len({id(one.imputer.network) for one in members}) == 1
    assert [one.number for one in members] == [1, 2, 3]
    centres = [one.scaler.centre[0] for one in members]
    assert np.allclose(centres, [0, 10, 20], atol=1.0)
    thresholds = [tuple(one.calibration.thresholds) for one in members]
    assert len(set(thresholds)) == 3


def test_a_saved_fleet_scores_the_same_and_an_entity_costs_little(
    fleet: ImDiffusion, tmp_path: Path
) -> None:
    fleet.save(tmp_path / "m")
    again = ImDiffusion.load(tmp_path / "m", device="cpu")
    data = {f"h{n}": series(n + 10, 100) for n in range(3)}
    before, after = fleet.decision_function(data), again.decision_function(data)
    assert all(np.array_equal(before[name], after[name]) for name in data)
    # The network is there once, and every entity's own part is small.
    parameters = 4 * fleet.num_parameters_
    held = (tmp_path / "m" / "weights.safetensors").stat().st_size
    assert held < parameters + 3 * 20_000


def test_state_of_an_entity_of_38_channels_takes_less_than_20_kb(tmp_path: Path) -> None:
    data = {f"h{n}": np.random.default_rng(n).normal(size=(400, 38)) for n in range(2)}
    tiny = {"max_steps": 2, "validate_every": 2, "width": 8, "feedforward": 8, "layers": 1}
    detector = ImDiffusion(scope="shared", **tiny).fit(data)

    def size(folder: Path) -> int:
        detector.save(folder)
        return sum(path.stat().st_size for path in folder.iterdir())

    two = size(tmp_path / "two")
    detector.enroll({"more": np.random.default_rng(2).normal(size=(400, 38))})
    assert size(tmp_path / "three") - two < 20_000


def test_a_member_is_told_apart_by_its_embedding(fleet: ImDiffusion) -> None:
    network = fleet._entity("h0").imputer.network
    assert isinstance(network, SharedDenoiser)
    x = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0))
    parts = (x, torch.tensor([0, 1]), torch.ones(2, 20, 3, dtype=torch.bool), torch.tensor([0, 1]))
    with torch.no_grad():
        one, two, nobody = (
            EntityView(network, torch.tensor([number]))(*parts) for number in (1, 2, NOBODY)
        )
        both = EntityView(network, torch.tensor([1, 2]))(*parts)
    assert not torch.equal(one, two)
    assert not torch.equal(one, nobody)
    assert torch.allclose(both[0], one[0], atol=1e-6)
    assert torch.allclose(both[1], two[1], atol=1e-6)


def test_windows_of_a_training_never_cross_from_one_entity_into_the_next() -> None:
    settings = resolve("fast", {**TINY, "train_stride": 3})
    parts = []
    for rows in (50, 31, 20):
        observed = np.ones((rows, 2), bool)
        parts.append(Rows(np.zeros((rows, 2), np.float32), observed, np.arange(rows)))
    parts[0].observed[:26] = False  # the first windows show nothing
    first, owners = window_starts(parts, settings)
    borders = np.array([0, 50, 81, 101])
    assert (first >= borders[owners - 1]).all()
    assert (first + 20 <= borders[owners]).all()
    assert set(owners) == {1, 2, 3}
    assert first.min() == 9  # of every third start, the first whose 20 rows reach row 26


def test_entities_may_be_scored_in_any_company(fleet: ImDiffusion) -> None:
    data = {f"h{n}": series(n + 5, 90) for n in range(3)}
    together = fleet.decision_function(data)
    alone = fleet.decision_function({"h1": data["h1"]})
    assert np.array_equal(together["h1"], alone["h1"])


def test_a_guest_is_scored_at_once_and_enrolled_without_touching_the_others(
    fleet: ImDiffusion, tmp_path: Path
) -> None:
    fleet.save(tmp_path / "m")
    joined = ImDiffusion.load(tmp_path / "m", device="cpu")
    weights, data = state(joined), {"h1": series(21, 120)}
    before = joined.decision_function(data)["h1"]
    new = series(7, 200)
    with pytest.warns(DataWarning, match="'new' is new to this shared model"):
        as_guest = joined.decision_function({"new": new})["new"]
    assert np.isfinite(as_guest).all()
    assert joined.enroll({"new": new}) is joined
    assert joined.entities_ == ("h0", "h1", "h2", "new")
    after = state(joined)
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    assert np.array_equal(before, joined.decision_function(data)["h1"])
    own = joined.decision_function({"new": new})["new"]
    # Its level of 70 is far from the fleet's median of 10, and usual for itself.
    assert np.median(own) < 1 < np.median(as_guest)
    joined.save(tmp_path / "m2")
    again = ImDiffusion.load(tmp_path / "m2", device="cpu")
    assert np.array_equal(own, again.decision_function({"new": new})["new"])


def test_enrolling_a_member_calibrates_it_anew_and_keeps_its_embedding(tmp_path: Path) -> None:
    detector = fitted()
    detector.enroll({"h1": 3 * series(1)})
    member = detector._entity("h1")
    assert member.number == 2
    assert member.scaler.centre[0] == pytest.approx(30, abs=3)


def bad() -> dict[str, np.ndarray | pd.DataFrame]:
    """Entities that cannot share, each for a reason of its own."""
    table = pd.DataFrame(series(1), columns=list("abc"))
    return {
        "nan": np.full((300, 3), np.nan),
        "short": series(1, 19),
        "names": table,
        "narrow": series(1)[:, :2],
        "late": np.where(np.arange(300)[:, None] > 200, np.nan, series(1)),
        "text": table.assign(a="x"),
    }


def test_who_cannot_be_fitted_is_named_and_leaves_every_other_s_bits(
    fleet: ImDiffusion, tmp_path: Path
) -> None:
    first, *others = ((f"h{n}", series(n)) for n in range(3))
    mixed = dict([*list(bad().items())[:3], first, *list(bad().items())[3:], *others])
    with pytest.warns(DataWarning, match=r"entity '\w+' is left out and not fitted") as told:
        found = ImDiffusion(scope="shared", **TINY).fit(mixed)
    assert found.entities_ == ("h0", "h1", "h2")
    assert found.failed_.keys() == bad().keys()
    assert len([one for one in told if "left out" in str(one.message)]) == len(bad())
    reasons = found.failed_
    assert "no value of entity 'nan' is observed" in reasons["nan"]
    assert "19 rows, fewer than a window (20 rows)" in reasons["short"]
    assert (
        "other channels than the shared model: it has 'a', 'b', 'c' and lacks" in reasons["names"]
    )
    assert "other channels than the shared model: it lacks" in reasons["narrow"]
    assert "held-out rows" in reasons["late"]
    assert "'a'" in reasons["text"]
    for detector, folder in ((fleet, "whole"), (found, "mixed")):
        for entity in detector._need_fit().values():
            entity.history.seconds = entity.history.earlier_seconds = 0.0
        detector.save(tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "mixed").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "mixed" / name).read_bytes()
    assert ImDiffusion.load(tmp_path / "mixed").failed_ == {}


def test_the_channels_of_a_fleet_are_those_of_most_sound_entities() -> None:
    few = pd.DataFrame(series(0), columns=list("xyz"))
    empty = pd.DataFrame(np.full((300, 2), np.nan), columns=list("pq"))
    most = pd.DataFrame(series(1), columns=list("abc"))
    data = {"few": few, "e1": empty, "e2": empty, "e3": empty, "one": most, "two": most[[*"cab"]]}
    tiny = {**TINY, "max_steps": 2, "validate_every": 1}
    with pytest.warns(DataWarning) as told:
        detector = ImDiffusion(scope="shared", **tiny).fit(data)
    assert [one for one in told if "'two' are in another order" in str(one.message)]
    assert detector.entities_ == ("one", "two")
    assert detector.channels_ == ("a", "b", "c")
    centres = [one.scaler.centre for one in detector._need_fit().values()]
    assert np.array_equal(*centres)


def test_who_cannot_be_enrolled_is_named_and_the_others_are(fleet: ImDiffusion) -> None:
    joined, alone = fitted(), fitted()
    with pytest.warns(DataWarning, match="not enrolled"):
        joined.enroll({**bad(), "h1": np.full((300, 3), np.nan), "new": series(7)})
    alone.enroll({"new": series(7)})
    assert joined.failed_.keys() == {*bad(), "h1"}
    assert joined.entities_ == alone.entities_ == ("h0", "h1", "h2", "new")
    for name in joined.entities_:
        rows = {name: series(30, 90)}
        assert np.array_equal(*(one.decision_function(rows)[name] for one in (joined, alone)))
    before = joined._need_fit()
    with pytest.raises(DataError, match="none of the 6 entities can be enrolled; 'nan': no value"):
        joined.enroll(bad())
    assert joined._need_fit() is before


def test_where_nobody_is_sound_the_call_ends() -> None:
    nobody = {name: bad()[name] for name in ("nan", "short", "late", "text")}
    with pytest.raises(DataError, match="none of the 4 entities can be fitted; 'nan': no value"):
        ImDiffusion(scope="shared", **TINY).fit(nobody)
    with pytest.raises(DataError, match="entity 'short' has 19 rows, fewer than a window"):
        ImDiffusion(scope="shared", **TINY).fit({"short": series(1, 19)})
    with pytest.raises(ConfigError, match="needs timestamps"):  # the same of all: a setting's
        ImDiffusion(scope="shared", **TINY, alarms_per_day=1.0).fit(
            {"a": series(0), "b": series(1)}
        )


def test_what_a_fleet_refuses(fleet: ImDiffusion) -> None:
    with pytest.raises(DataError, match="needs a name"):
        fleet.enroll(series(0))
    with pytest.raises(DataError, match="other channels than the shared model"):
        fleet.enroll({"x": series(0)[:, :2]})
    alone = ImDiffusion(**{**TINY, "max_steps": 2, "validate_every": 1}).fit({"a": series(0)})
    with pytest.raises(ConfigError, match="none can join"):
        alone.enroll({"b": series(1)})
    with pytest.raises(DataError, match="no entity 'b'"):
        alone.decision_function({"b": series(1)})


def test_an_interrupted_fleet_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data = {f"h{n}": series(n) for n in range(3)}
    whole = state(ImDiffusion(scope="shared", **TINY).fit(data))

    def stop(progress: Progress) -> None:
        if progress.phase == "fit" and progress.done == 21:
            raise KeyboardInterrupt

    detector = ImDiffusion(scope="shared", **TINY)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(data, checkpoint=tmp_path / "c", on_progress=stop)
    resumed = state(detector.fit(data, checkpoint=tmp_path / "c"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("older", [1, 3])
def test_a_model_of_an_older_format_is_refused_by_its_number(tmp_path: Path, older: int) -> None:
    from imdiffusion.checkpoint import _sha256_of

    folder = tmp_path / "m"
    ImDiffusion(**TINY).fit(series(0)).save(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["format"] = older
    del manifest["sha256"]
    text = json.dumps({**manifest, "sha256": _sha256_of(manifest)})
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ModelError, match=f"has format {older}, .* reads 4. Fit again"):
        ImDiffusion.load(folder, device="cpu")
