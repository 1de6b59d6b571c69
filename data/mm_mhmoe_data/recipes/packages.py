"""Unpacked Debian packages."""

from __future__ import annotations

import gzip
from pathlib import Path


def package_version(root: Path, package: str) -> str:
    """The version of a package unpacked in `root`, from its changelog; "unknown" where that is missing."""
    folder = root / "usr/share/doc" / package
    for name in ("changelog.Debian.gz", "changelog.gz"):
        try:
            with gzip.open(folder / name, "rt", encoding="utf-8", errors="replace") as file:
                line = file.readline(500)
        except OSError:
            continue
        if version := line.partition("(")[2].partition(")")[0]:
            return version
    return "unknown"
