"""Files of a model and of an interrupted training: JSON and safetensors, never pickle.

A model is a folder:
    config.json          preset, seed and every setting
    manifest.json        format, sha256 of the other files, each entity's fitted state and version
    weights.safetensors  tensors named "<entity number>/<parameter>", or "shared/<parameter>" of a
                         network that entities share; the arrays of an entity's fitted state under
                         "<entity number>/facts/<name>"
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from imdiffusion.arrays import Arrays
from imdiffusion.data.atomic import atomic_folder, atomic_path
from imdiffusion.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 4  # 1 had an entity's arrays as text, 2 other names of settings, 3 lists as text

FACTS = "facts"
CONFIG, MANIFEST, WEIGHTS = "config.json", "manifest.json", "weights.safetensors"


def write_model(
    folder: Path, config: dict[str, Any], entities: list[dict[str, Any]], weights: Arrays
) -> None:
    """Write a model folder under a temporary name, fsync it and move it to its place.

    Raises OutputError where that is impossible; an existing model is replaced only at the end.
    """
    facts, arrays = _apart(entities)
    with atomic_folder(folder) as draft:
        _write_json(draft / CONFIG, {"format": FORMAT, **config})
        _write_tensors(draft / WEIGHTS, weights | arrays, {})
        manifest = {
            "format": FORMAT,
            "files": {name: _sha256(draft / name) for name in (CONFIG, WEIGHTS)},
            "entities": facts,
        }
        _write_json(draft / MANIFEST, {**manifest, "sha256": _sha256_of(manifest)})


def read_model(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]], Arrays]:
    """Config, entities and weights of a model folder, each checked against its sha256.

    Raises ModelError naming the file that is missing, altered, unreadable or of a newer format.
    """
    if not folder.is_dir():
        raise ModelError(
            f"no model folder at {folder}", remedy="Fit one: imdiffusion fit DATA --model FOLDER."
        )
    manifest = _json(folder / MANIFEST, _bytes(folder / MANIFEST))
    _check_format(folder / MANIFEST, manifest)
    stated = manifest.pop("sha256", None)
    if stated != _sha256_of(manifest):
        raise _altered(folder / MANIFEST)
    found: dict[str, bytes] = {}
    for name in (CONFIG, WEIGHTS):
        found[name] = _bytes(folder / name)
        if hashlib.sha256(found[name]).hexdigest() != manifest["files"].get(name):
            raise _altered(folder / name)
    config = _json(folder / CONFIG, found[CONFIG])
    _check_format(folder / CONFIG, config)
    try:  # of the very bytes that were checked, whatever becomes of the file
        weights = load(found[WEIGHTS])
    except SafetensorError as error:
        raise ModelError(
            f"{folder / WEIGHTS} cannot be read: {error}", remedy="Restore it, or fit again."
        ) from error
    return config, manifest["entities"], _joined(manifest["entities"], weights)


def _apart(entities: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Arrays]:
    """The facts of entities that JSON holds, and their arrays."""
    arrays = {
        f"{number}/{FACTS}/{name}": value
        for number, facts in enumerate(entities)
        for name, value in facts.items()
        if isinstance(value, np.ndarray)
    }
    plain = [
        {name: value for name, value in facts.items() if not isinstance(value, np.ndarray)}
        for facts in entities
    ]
    return plain, arrays


def _joined(entities: list[dict[str, Any]], tensors: Arrays) -> Arrays:
    """Put the arrays back into the facts of entities; what is left are weights."""
    weights = {}
    for name, tensor in tensors.items():
        number, _, rest = name.partition("/")
        kind, _, fact = rest.partition("/")
        if kind == FACTS:
            entities[int(number)][fact] = tensor
        else:
            weights[name] = tensor
    return weights


def write_state(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file, atomically."""
    with atomic_path(path) as draft:
        on_cpu = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        _write_tensors(draft, on_cpu, {"facts": json.dumps(facts)})


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write_state` wrote, or None if there is no such file.

    Raises ModelError for a file that is there but cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"the resume state {path} cannot be read: {error}",
            remedy="Delete it to restart the training.",
        ) from error
    return tensors, facts


def fingerprint(facts: dict[str, Any], *arrays: Any) -> str:
    """sha256 over JSON facts and the bytes of arrays: the same training, or another."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        if array.size:  # of an array without a number there are no bytes to cast
            digest.update(memoryview(array).cast("B"))
    return digest.hexdigest()


def flat_weights(module: nn.Module, prefix: str) -> Arrays:
    """The module's state under "<prefix>/<name>"."""
    state = module.state_dict()
    return {f"{prefix}/{name}": tensor.detach().cpu().numpy() for name, tensor in state.items()}


def _write_tensors(path: Path, tensors: Arrays, metadata: dict[str, str]) -> None:
    """Write a safetensors file through Python, so that a full disk is an OSError as elsewhere."""
    # `ascontiguousarray` would make a row of a single number.
    whole = {
        name: one if one.flags.c_contiguous else np.ascontiguousarray(one)
        for name, one in tensors.items()
    }
    path.write_bytes(save(whole, metadata or None))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise _missing(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}", remedy="Restore it, or fit again."
        ) from error


def _json(path: Path, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _altered(path) from error
    if not isinstance(content, dict):
        raise _altered(path)
    return content


def _check_format(path: Path, content: dict[str, Any]) -> None:
    found = content.get("format")
    if not isinstance(found, int):
        raise _altered(path)
    if found < FORMAT:
        raise ModelError(
            f"{path} has format {found}, of a version before 0.1.0; this version reads {FORMAT}",
            remedy="Fit again.",
        )
    if found > FORMAT:
        raise ModelError(
            f"{path} has format {found}; this version reads formats up to {FORMAT}",
            remedy="Upgrade with: pip install -U imdiffusion.",
        )


def _missing(path: Path) -> ModelError:
    return ModelError(
        f"{path} is missing from the model folder", remedy="Restore it, or fit again."
    )


def _altered(path: Path) -> ModelError:
    return ModelError(
        f"{path} was altered after it was saved, or is damaged: its sha256 does not match",
        remedy="Restore the original, or fit again.",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
