"""Recipes: from a public source to shards, one function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .openclipart import build_openclipart

RECIPES: dict[str, Callable[..., dict[str, Any]]] = {"openclipart": build_openclipart}

__all__ = ["RECIPES", "build_openclipart"]
