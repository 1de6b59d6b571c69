"""JSON values back to dataclasses, with errors that name the field."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def decode(kind: Any, value: Any, where: str) -> Any:
    """`value`, as read from JSON, as an object of the type `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return decode(inner, value, where)
    if origin is Literal:
        _check(value in arguments, where, f"{value!r} is not one of {', '.join(map(repr, arguments))}")
        return value
    if origin is list:
        _check(isinstance(value, list), where, f"needs a list, has {type(value).__name__}")
        return [decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict:
        _check(isinstance(value, dict), where, f"needs an object, has {type(value).__name__}")
        return {key: decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(kind):
        _check(isinstance(value, dict), where, f"needs an object, has {type(value).__name__}")
        hints = get_type_hints(kind)
        unknown = sorted(set(value) - {f.name for f in fields(kind)})
        _check(not unknown, where, f"has unknown fields {', '.join(unknown)}")
        decoded = {name: decode(hints[name], item, f"{where}.{name}") for name, item in value.items()}
        try:
            return kind(**decoded)  # type: ignore[operator]
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from error
    accepted = (int, float) if kind is float else kind
    right = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    _check(right, where, f"needs {getattr(kind, '__name__', kind)}, has {value!r:.60}")
    return value


def _check(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise ValueError(f"{where} {message}")
