"""The constructor is the configuration: scikit-learn's parameter contract over `Settings`."""

from __future__ import annotations

from typing import Any, Self

from imdiffusion.schema import Value, one_of
from imdiffusion.settings import SETTINGS


class Parameters:
    """Stores preset, seed, device and any settings put over the preset; validates names only."""

    def __init__(
        self,
        preset: str = "fast",
        *,
        seed: int = 0,
        device: str = "auto",
        **settings: Value,
    ) -> None:
        for key in settings:
            one_of("setting", key, SETTINGS)
        self.preset, self.seed, self.device = preset, seed, device
        self._overrides = {key: value for key, value in settings.items() if value is not None}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments: preset, seed, device and every setting (None = the preset's)."""
        settings = {name: self._overrides.get(name) for name in SETTINGS}
        return {"preset": self.preset, "seed": self.seed, "device": self.device, **settings}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; they take effect at the next `fit`."""
        own = {key: params.pop(key) for key in ("preset", "seed", "device") if key in params}
        for key in params:
            one_of("setting", key, SETTINGS)
        for key, value in own.items():
            setattr(self, key, value)
        merged = {**self._overrides, **params}
        self._overrides = {key: value for key, value in merged.items() if value is not None}
        return self

    def __repr__(self) -> str:
        named = {"seed": self.seed, "device": self.device, **self._overrides}
        words = "".join(f", {key}={value!r}" for key, value in named.items())
        return f"{type(self).__name__}({self.preset!r}{words})"
