"""The fitted state of a detector: its attributes, and its way to disk and back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from imdiffusion import __version__
from imdiffusion.checkpoint import fingerprint, flat_weights, read_model, write_model
from imdiffusion.devices import device_of
from imdiffusion.entity import Entity
from imdiffusion.errors import DataError, DataWarning, NotFittedError
from imdiffusion.inputs import Source
from imdiffusion.parameters import Parameters
from imdiffusion.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

Result = TypeVar("Result")
SHARED = "shared"  # where a shared network stands among the weights


class FittedState(Parameters):
    """Parameters, and what `fit` or `load` found: an `Entity` for each name, and the settings."""

    _entities: dict[str | None, Entity]
    _settings: Settings
    _source: Source
    _many: bool
    _failed: dict[str, str]
    _fitted_as: tuple[str, int, dict[str, Any]]  # preset, seed, overrides when `fit` was called

    # -- save and load

    def save(self, folder: str | Path) -> None:
        """Write the fitted detector to a model folder (JSON and safetensors), atomically.

        Raises NotFittedError, OutputError.
        """
        entities = self._need_fit()
        weights: dict[str, NDArray[Any]] = {}
        shared = self._settings.scope == "shared"
        for number, entity in enumerate(entities.values()):
            if self._settings.networked and (number == 0 or not shared):
                weights |= flat_weights(entity.network, SHARED if shared else str(number))
        config = {
            "version": __version__,
            "preset": self._fitted_as[0],
            "seed": self._fitted_as[1],
            "many": self._many,
            "timestamp": self._source.timestamp,
            "ignore_columns": list(self._source.ignore_columns),
            "sort": self._source.sort,
            "overrides": self._fitted_as[2],
            "settings": self._settings.to_dict(),
        }
        # Of entities that share one it is soon worked out: their network's digest is one for all.
        facts = [
            entity.to_dict() | ({} if shared else {"version": version(entity)})
            for entity in entities.values()
        ]
        write_model(Path(folder), config, facts, weights)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a model folder, checking every file. Raises ModelError, ConfigError."""
        config, facts, weights = read_model(Path(folder))
        detector = cls(config["preset"], seed=config["seed"], device=device, **config["overrides"])
        detector._settings = Settings(**config["settings"])
        on = device_of(device) if detector._settings.networked else None
        detector._many, detector._failed = config["many"], {}
        detector._fitted_as = (config["preset"], config["seed"], dict(config["overrides"]))
        detector._source = Source(
            timestamp=config["timestamp"],
            ignore_columns=tuple(config["ignore_columns"]),
            sort=config["sort"],
        )
        detector._entities = {
            one.name: one
            for one in _restored(facts, weights, detector._settings, seed=detector.seed, on=on)
        }
        return detector

    # -- fitted attributes

    @property
    def settings_(self) -> Settings:
        """Every setting as it was resolved at `fit`."""
        self._need_fit()
        return self._settings

    @property
    def entities_(self) -> tuple[str | None, ...]:
        """Names of the fitted entities; (None,) for a single unnamed one."""
        return tuple(self._need_fit())

    def entity(self, name: str | None = None) -> Entity:
        """The fitted entity of that name; without a name the only one there is.

        Raises NotFittedError, and DataError for a name that was not fitted.
        """
        entities = self._need_fit()
        if name is None and len(entities) == 1:
            return next(iter(entities.values()))
        if name not in entities:
            known = ", ".join(repr(known) for known in entities)
            raise DataError(
                f"the model has no entity {name!r}", remedy=f"It knows: {known}. Fit it first."
            )
        return entities[name]

    @property
    def failed_(self) -> dict[str, str]:
        """Entities that the last `fit` or `enroll` of a shared model left out, with the reason."""
        self._need_fit()
        return dict(self._failed)

    @property
    def channels_(self) -> tuple[str, ...]:
        """Channel names in the model's order (of the first entity)."""
        return next(iter(self._need_fit().values())).channels

    @property
    def n_features_in_(self) -> int:
        """Number of channels K."""
        return len(self.channels_)

    @property
    def num_parameters_(self) -> int:
        """Trainable parameters of one entity's network."""
        return next(iter(self._need_fit().values())).num_parameters

    @property
    def threshold_(self) -> Any:
        """What stands for a score of 1, raw: a list of floats, or a dict of lists.

        Of several views the value of their join; of the network alone an error for each step.
        """
        return self._per_entity(lambda entity: entity.thresholds)

    @property
    def report_(self) -> Any:
        """What is promised and how training rows kept it: a `PromiseReport`, or a dict of them.

        It follows `set_alarm_rate`, and is saved with the model.

        Examples
        --------
        >>> from imdiffusion import ImDiffusion
        >>> x = np.random.default_rng(0).normal(size=(4000, 3))
        >>> report = ImDiffusion("linear", alarm_rate=0.02).fit(x).report_
        >>> report.promised, report.rows, report.low < report.achieved < report.high
        (0.02, 4000, True)
        """
        return self._per_entity(lambda entity: entity.report())

    @property
    def history_(self) -> Any:
        """Course of the training: step, loss, holdout_rmse, best_step, converged, seconds."""
        return self._per_entity(lambda entity: entity.history.to_dict())

    # -- inside

    def _need_fit(self) -> dict[str | None, Entity]:
        entities: dict[str | None, Entity] | None = getattr(self, "_entities", None)
        if entities is None:
            raise NotFittedError(
                "this detector is not fitted", remedy="Call fit(train) first, or load a model."
            )
        return entities

    def _per_entity(self, read: Callable[[Entity], Result]) -> Result | dict[Any, Result]:
        entities = self._need_fit()
        if self._many:
            return {name: read(entity) for name, entity in entities.items()}
        return read(next(iter(entities.values())))

    def _entity(self, name: str | None) -> Entity:
        entities = self._need_fit()
        if name in entities:
            return entities[name]
        if len(entities) == 1 and (name is None or None in entities):
            return next(iter(entities.values()))
        if self._settings.scope == "shared":
            return self._guest(name)
        return self.entity(name)

    def _guest(self, name: str | None) -> Entity:
        warnings.warn(
            f"entity {name!r} is new to this shared model: it is scored by the median scaler and "
            "thresholds until it is enrolled with rows of its own",
            DataWarning,
            stacklevel=4,
        )
        from imdiffusion.shared_model import fallback_entity

        return fallback_entity(list(self._need_fit().values()), name)


def _restored(
    facts: list[dict[str, Any]],
    weights: dict[str, NDArray[Any]],
    settings: Settings,
    *,
    seed: int,
    on: torch.device | None,
) -> list[Entity]:
    """The entities that were saved, each with its own network, or all with one, or without any."""
    if on is None:
        found = [Entity.restore(one, None, settings, seed=seed, device=None) for one in facts]
        for entity, one in zip(found, facts, strict=True):
            entity.version = str(one["version"])
        return found
    import torch

    from imdiffusion.diffusion.frozen import FrozenDenoiser
    from imdiffusion.shared_model import restore_shared

    split: dict[str, dict[str, torch.Tensor]] = {}
    for name, array in weights.items():
        owner, _, parameter = name.partition("/")
        split.setdefault(owner, {})[parameter] = torch.from_numpy(array)
    if settings.scope == "shared":
        return restore_shared(facts, split[SHARED], settings, seed=seed, device=on)
    found = []
    for number, one in enumerate(facts):
        network = FrozenDenoiser(settings, len(one["channels"]), split[str(number)], device=on)
        found.append(Entity.restore(one, network, settings, seed=seed, device=on))
        found[-1].version = str(one.get("version", ""))  # folders from before it do not say it
    return found


def version(entity: Entity) -> str:
    """What was fitted, as 16 hexadecimal digits: the same fit and settings, the same version.

    A folder says it beside the sha256 of the weights, which were checked when it was read; they are
    not read a second time.
    """
    if entity.version:
        return entity.version
    facts = {name: value for name, value in entity.to_dict().items() if name != "history"}
    arrays = {name: value for name, value in facts.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in facts.items() if name not in arrays}
    networked = entity.settings.networked
    return fingerprint(
        {
            "fitted": plain,
            "settings": entity.settings.to_dict(),
            "seed": entity.seed,
            "weights": _digest(entity.network) if networked else "",
        },
        *(arrays[name] for name in sorted(arrays)),
    )[:16]


_digests: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def _digest(network: nn.Module) -> str:
    """sha256 of the weights; that of a shared network is worked out once for all its entities."""
    from imdiffusion.diffusion.shared_denoiser import SharedDenoiser

    if isinstance(network, SharedDenoiser) and network in _digests:
        return _digests[network]
    weights = network.state_dict()
    found = fingerprint({}, *(weights[name].cpu().numpy() for name in sorted(weights)))
    if isinstance(network, SharedDenoiser):
        _digests[network] = found
    return found
