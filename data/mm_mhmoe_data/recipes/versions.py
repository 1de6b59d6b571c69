"""What else the bytes of a build depend on: the programs that made it."""

from __future__ import annotations

from importlib.metadata import version

from mm_mhmoe import __version__

LIBRARIES = ("pillow", "webdataset")


def made_with() -> dict[str, str]:
    """Name and version of each program that shapes the bytes."""
    return {"mm-mhmoe": __version__} | {name: version(name) for name in LIBRARIES}
