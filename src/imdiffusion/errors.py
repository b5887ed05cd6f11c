"""Every exception and warning of the library, as one tree.

    ImDiffusionError
    ├── UsageError              exit 2   the command line or call was wrong
    ├── DataError (ValueError)  exit 3   the input data cannot be used
    ├── OutputError (OSError)   exit 3   a result cannot be written
    ├── ConnectionLost (OSError) exit 3  a source or sink is away; trying again may help
    ├── SourceEnded             exit 3   a live source has said its last row
    ├── ConfigError (ValueError) exit 4  a setting is unknown or out of range
    ├── ModelError              exit 4   a saved model is missing, altered or too new
    ├── NotFittedError          exit 4   a fitted attribute was asked for before fit
    └── MissingExtraError (ImportError) exit 4  an optional dependency is absent

    ImDiffusionWarning (UserWarning)
    ├── DataWarning             accepted, but worth knowing
    ├── StateWarning            live state was damaged, and was set aside
    └── ConvergenceWarning      training ended before the held-out loss settled

A message says what is wrong and where; `remedy` says what to do about it.
"""

from __future__ import annotations


class ImDiffusionError(Exception):
    """Root of the tree: `str(error)` is "what, where. remedy"."""

    exit_code = 1

    def __init__(self, what: str, *, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(what, remedy)

    def __str__(self) -> str:
        if not self.remedy:
            return self.what
        joint = " " if self.what.endswith((".", "?", "!")) else ". "
        return f"{self.what}{joint}{self.remedy}"


class UsageError(ImDiffusionError):
    """The command line or the call was wrong."""

    exit_code = 2


class DataError(ImDiffusionError, ValueError):
    """The input data cannot be used as it is."""

    exit_code = 3


class OutputError(ImDiffusionError, OSError):
    """A result cannot be written where it was asked for."""

    exit_code = 3

    def __str__(self) -> str:  # OSError has a __str__ of its own
        return ImDiffusionError.__str__(self)


class ConnectionLost(ImDiffusionError, OSError):  # noqa: N818
    """A source or sink is away for now: refused, timed out, or in trouble of its own."""

    exit_code = 3

    def __str__(self) -> str:  # OSError has a __str__ of its own
        return ImDiffusionError.__str__(self)


class SourceEnded(ImDiffusionError):  # noqa: N818
    """A live source has come to its end: every row was read, and none will ever follow.

    Not a failure: the reader ends its work. Sources without an end never raise it.
    """

    exit_code = 3


class ConfigError(ImDiffusionError, ValueError):
    """A setting is unknown, of the wrong type, or out of range."""

    exit_code = 4


class ModelError(ImDiffusionError):
    """A saved model is missing, altered, incomplete or of a newer format."""

    exit_code = 4


class NotFittedError(ImDiffusionError, AttributeError):
    """A method that needs a fitted detector was called before `fit`."""

    exit_code = 4


class MissingExtraError(ImDiffusionError, ImportError):
    """An optional dependency is absent; the remedy names the extra."""

    exit_code = 4

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed",
            remedy=f"Install it with: pip install 'imdiffusion[{extra}]'.",
        )


class ImDiffusionWarning(UserWarning):
    """Root of the library's warnings."""


class DataWarning(ImDiffusionWarning):
    """The data was accepted, but something about it is worth knowing."""


class StateWarning(ImDiffusionWarning):
    """Live state was damaged and set aside: detection goes on from a fresh one."""


class ConvergenceWarning(ImDiffusionWarning):
    """Training ended before the held-out loss had settled."""
