"""The constructor is the configuration: scikit-learn's parameter contract over `Settings`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Self

from imdiffusion import presets
from imdiffusion.presets import Scalar, Settings


class Parameters:
    """Stores preset, seed, device and any settings put over the preset; validates names only."""

    def __init__(
        self,
        preset: str = "fast",
        *,
        seed: int = 0,
        device: str = "auto",
        **settings: Scalar | None,
    ) -> None:
        presets.check_names(settings)
        self.preset, self.seed, self.device = preset, seed, device
        self._overrides = {key: value for key, value in settings.items() if value is not None}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments: preset, seed, device and every setting (None = the preset's)."""
        settings = {f.name: self._overrides.get(f.name) for f in fields(Settings)}
        return {"preset": self.preset, "seed": self.seed, "device": self.device, **settings}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; they take effect at the next `fit`."""
        own = {key: params.pop(key) for key in ("preset", "seed", "device") if key in params}
        presets.check_names(params)
        for key, value in own.items():
            setattr(self, key, value)
        merged = {**self._overrides, **params}
        self._overrides = {key: value for key, value in merged.items() if value is not None}
        return self

    def __repr__(self) -> str:
        named = {"seed": self.seed, "device": self.device, **self._overrides}
        words = "".join(f", {key}={value!r}" for key, value in named.items())
        return f"{type(self).__name__}({self.preset!r}{words})"
