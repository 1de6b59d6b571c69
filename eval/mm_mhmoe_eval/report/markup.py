"""HTML that is escaped by construction: text goes in as `str` and is escaped, only `Markup` passes as it
is."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

_VOID = frozenset({"br", "img", "meta", "hr"})
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*\Z")
_PICTURE = re.compile(r"data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}\Z")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def tag(name: str, /, *children: Child, **attributes: str | int | float | None) -> Markup:
    """An element. Children that are not Markup are escaped; None and nested lists are fine.

    Attribute names: `class_` for class, `_` for `-`. An attribute that is None is left out.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            parts.append(f'{_attribute(key)}="{html.escape(shown, quote=True)}"')
    opening = f"<{' '.join(parts)}>"
    if name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """The children one after the other, escaped where they are plain text."""
    out: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, Markup):
            out.append(child)
        elif isinstance(child, str):
            out.append(html.escape(child, quote=False))
        else:
            out.append(join(*child))
    return Markup("".join(out))


def checked_picture(uri: str) -> str:
    """The URI, when it is a picture that is carried in the page.

    Raises ValueError otherwise: the page loads nothing from elsewhere.
    """
    if not _PICTURE.match(uri):
        raise ValueError(f"picture {uri[:40]!r}... is not a base64 data URI of a picture; make it with picture_uri")
    return uri


def picture(uri: str, description: str, **attributes: str | None) -> Markup:
    """An <img> of a picture that is carried in the page."""
    return tag("img", src=checked_picture(uri), alt=description, loading="lazy", decoding="async", **attributes)


def _attribute(key: str) -> str:
    name = key.rstrip("_").replace("_", "-")
    assert _NAME.match(name), name
    return name
