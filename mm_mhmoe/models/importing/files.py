"""Files of weights, and taking weights by name and shape."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# What training scripts wrap a state dict in.
_WRAPPERS = ("model", "state_dict", "module")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Weights of a .safetensors file, or of a .pth file, of which only tensors and plain values are unpickled.

    Raises:
        ValueError: the file is none of these, or holds no weights.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; name a .pth or .safetensors file")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as weights ({reason}); download it again") from error
    for name in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
            break
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, Mapping) else {}
    if not tensors:
        raise ValueError(f"{path} holds no weights by name; a checkpoint's state dict is needed")
    return tensors


class Taken:
    """Weights that are taken one by one, by name and expected shape.

    Args:
        weights: all of them.
        prefix: before every name.
        source: what error messages call them.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, prefix: str, source: str) -> None:
        self._weights = weights
        self._prefix = prefix
        self._source = source
        self._names: set[str] = set()

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Raises ValueError when the weight is absent or has another shape."""
        full = self._prefix + name
        if full not in self._weights:
            raise ValueError(f"{self._source} has no {full} of shape {shape}; it is no such model")
        found = self._weights[full]
        if tuple(found.shape) != shape:
            raise ValueError(
                f"{self._source}: {full} has shape {tuple(found.shape)} instead of {shape}; it is another architecture"
            )
        self._names.add(full)
        return found.to(torch.float32)

    def linear(self, name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        """Weight and bias of a Linear."""
        return {"weight": self(f"{name}.weight", outputs, inputs), "bias": self(f"{name}.bias", outputs)}

    def norm(self, name: str, dim: int) -> dict[str, Tensor]:
        """Weight and bias of a LayerNorm."""
        return {part: self(f"{name}.{part}", dim) for part in ("weight", "bias")}

    def rest(self) -> list[str]:
        """Names that begin with the prefix and were not taken, and all others."""
        return sorted(self._weights.keys() - self._names)


def shape_of(weights: Mapping[str, Tensor], name: str, dims: int, source: str) -> tuple[int, ...]:
    """Shape of a weight that a configuration is read from. Raises ValueError without one of so many dimensions."""
    if name not in weights:
        raise ValueError(f"{source} has no {name}; it is no such model")
    shape = tuple(weights[name].shape)
    if len(shape) != dims:
        raise ValueError(f"{source}: {name} has shape {shape}, but {dims} dimensions are expected")
    return shape
