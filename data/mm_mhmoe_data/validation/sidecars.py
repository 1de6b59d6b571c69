"""What files beside shards say about them: counts, checksums, indexes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.index_file import IndexFileError, read_header
from mm_mhmoe_data.shards.index_store import cache_folder, index_path
from mm_mhmoe_data.validation.findings import Finding, ShardReport

_MOST_BYTES = 256 << 20


class Claim(NamedTuple):
    """What `source` says of a shard; None: nothing."""

    source: Path
    shard: Path
    samples: int | None = None
    sha256: str | None = None


def sidecar_findings(reports: Sequence[ShardReport]) -> list[Finding]:
    """Compares the shards with `NNNNN_stats.json`, `sizes.json`, `__len__`, `_info.json`, manifests and indexes."""
    by_path = {Path(report.shard): report for report in reports}
    folders = defaultdict(list)
    for path in by_path:
        folders[path.parent].append(path)
    findings: list[Finding] = []
    for folder, paths in folders.items():
        for read in (_sizes, _info, _manifest):
            findings += _compared(folder, read, by_path)
        findings += _total(folder, [by_path[path] for path in paths])
    for path, report in by_path.items():
        findings += _compared(path, _stats, by_path)
        findings += _index(path, report)
    return findings


def _compared(
    place: Path, read: Callable[[Path], Iterator[Claim]], by_path: dict[Path, ShardReport]
) -> Iterator[Finding]:
    try:
        for source, shard, samples, sha256 in read(place):
            report = by_path.get(shard)
            if report is None:
                if not shard.exists():
                    yield Finding(kind="missing_shard", shard=str(shard), problem=f"{source} lists it")
                continue
            if samples is not None and samples != report.samples:
                problem = f"it has {report.samples} samples, {source.name} says {samples}"
                yield Finding(kind="count", shard=report.shard, problem=problem)
            if sha256 is not None and report.sha256 and sha256 != report.sha256:
                problem = f"its sha256 is not the one in {source.name}"
                yield Finding(kind="checksum", shard=report.shard, problem=problem)
    except _Unusable as error:
        yield Finding(kind="sidecar", shard=str(error.path), problem=error.problem)


class _Unusable(Exception):
    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; empty if there is no such file."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise _Unusable(path, f"it has more than {_MOST_BYTES} bytes")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _Unusable(path, f"it cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise _Unusable(path, f"it holds {type(content).__name__} instead of an object")
    return content


def _count(path: Path, value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise _Unusable(path, f"{str(value)[:40]!r} in it is no count")


def _sizes(folder: Path) -> Iterator[Claim]:
    """open_clip: {"00000.tar": samples}."""
    source = folder / "sizes.json"
    for name, samples in _json(source).items():
        yield Claim(source, folder / name, _count(source, samples))


def _stats(shard: Path) -> Iterator[Claim]:
    """img2dataset: `successes` of 00000_stats.json."""
    source = shard.with_name(f"{shard.stem}_stats.json")
    yield Claim(source, shard, _count(source, _json(source).get("successes")))


def _info(folder: Path) -> Iterator[Claim]:
    """timm: for each split, filenames and as many shard_lengths."""
    source = folder / "_info.json"
    splits = _json(source).get("splits") or {}
    for split in splits.values() if isinstance(splits, dict) else splits:
        names, lengths = (
            (split.get(name) or [] for name in ("filenames", "shard_lengths")) if isinstance(split, dict) else ([], [])
        )
        if lengths and len(lengths) != len(names):
            raise _Unusable(source, f"it has {len(names)} filenames and {len(lengths)} shard_lengths")
        for name, samples in zip(names, lengths or [None] * len(names), strict=True):
            yield Claim(source, folder / str(name), _count(source, samples))


def _manifest(folder: Path) -> Iterator[Claim]:
    """This project's recipes: sha256 of every file, in the shards' folder or the one above."""
    for root in (folder, folder.parent):
        source = root / "manifest.json"
        sums = _json(source).get("sha256")
        for name, sha256 in sums.items() if isinstance(sums, dict) else ():
            shard = root / name
            if shard.suffix == ".tar" and shard.parent == folder:
                yield Claim(source, shard, sha256=str(sha256))


def _total(folder: Path, reports: list[ShardReport]) -> Iterator[Finding]:
    """open_clip: the samples of all shards of a folder in a file named __len__."""
    source = folder / "__len__"
    if not source.is_file() or len(reports) < len(list(folder.glob("*.tar"))):
        return
    try:
        stated = int(source.read_text()[:100])
    except (OSError, ValueError) as error:
        yield Finding(kind="sidecar", shard=str(source), problem=f"it is no count ({error})")
        return
    if stated != (found := sum(report.samples for report in reports)):
        yield Finding(
            kind="count", shard=str(folder), problem=f"its shards have {found} samples, __len__ says {stated}"
        )


def _index(shard: Path, report: ShardReport) -> Iterator[Finding]:
    """An index holds the checksum from when it was made; one that looks current must agree with it."""
    for path in (index_path(Shard(str(shard))), index_path(Shard(str(shard)), cache_folder())):
        try:
            header, stat = read_header(path), shard.stat()
        except OSError:
            continue
        except IndexFileError as error:
            yield Finding(kind="sidecar", shard=str(path), problem=str(error))
            continue
        if (header["size"], header["mtime_ns"]) != (stat.st_size, stat.st_mtime_ns):
            if path.parent == shard.parent:
                yield Finding(
                    kind="stale_index", shard=report.shard, problem=f"{path.name} was made before its last change"
                )
        elif header["sha256"] != report.sha256:
            problem = "its bytes have changed since it was indexed, although its size and time have not"
            yield Finding(kind="checksum", shard=report.shard, problem=problem)
