"""Many shards, several at a time, and what only shows when they are seen together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from mm_mhmoe_data.parallel import parallel
from mm_mhmoe_data.validation.findings import Checks, Finding, Report, ShardReport
from mm_mhmoe_data.validation.shard import keys_among, validate_shard
from mm_mhmoe_data.validation.sidecars import sidecar_findings

_FEW_BYTES = 16 << 20


def validate_shards(
    shards: Sequence[Path],
    checks: Checks | None = None,
    *,
    salvage_to: Path | None = None,
    workers: int | None = None,
    done: Callable[[ShardReport], None] = lambda report: None,
) -> Report:
    """Reads all shards and says what is wrong with them; damage is reported, never raised.

    What is kept are findings and 8 bytes a sample, for keys that occur twice.

    Args:
        shards: tar files; one that is named twice is read once.
        checks: what is looked at.
        salvage_to: a folder to which the intact samples of shards with errors are written.
        workers: processes; default: one for each processor. Few bytes are read in this process.
        done: called for every shard, in their order.

    Raises:
        ValueError: a process was killed, or salvaged shards would be written over others.
        OSError: the folder to salvage to cannot be written.
    """
    shards = list(dict.fromkeys(shards))
    if salvage_to is not None:
        _check_folder(salvage_to, shards)
    reports = []
    task = partial(validate_shard, checks=checks or Checks(), salvage_to=salvage_to)
    for report in parallel(task, shards, workers=workers, few_bytes=_FEW_BYTES):
        reports.append(report)
        done(report)
    beside = [*_keys_twice(reports, workers), *sidecar_findings(reports)]
    return Report(shards=reports, beside=beside)


def _check_folder(folder: Path, shards: Sequence[Path]) -> None:
    """Nothing may be written over: neither a shard, nor one salvaged shard over another."""
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):
        raise ValueError(f"salvage={folder}: several shards have the same name; salvage each folder by itself")
    if any((folder / name).exists() for name in names):
        raise ValueError(f"salvage={folder} holds shards of these names already; name an empty folder")


def _keys_twice(reports: Sequence[ShardReport], workers: int | None) -> list[Finding]:
    """Keys that occur in several shards. Only shards that have some are read again, for the keys themselves."""
    hash_N = np.sort(np.concatenate([np.zeros(0, np.uint64), *(report.key_hash_n for report in reports)]))
    shared = np.unique(hash_N[1:][hash_N[1:] == hash_N[:-1]])
    concerned = [Path(report.shard) for report in reports if np.isin(report.key_hash_n, shared).any()]
    where = defaultdict(list)
    task = partial(keys_among, wanted=set(shared.tolist()))
    for shard, keys in zip(concerned, parallel(task, concerned, workers=workers, few_bytes=_FEW_BYTES), strict=True):
        for key in keys:
            where[key].append(shard)
    findings = []
    for key, places in where.items():
        others = ", ".join(str(place) for place in places[1:4]) + (" ..." if len(places) > 4 else "")
        findings.append(Finding(kind="key_twice", shard=str(places[0]), key=key, problem=f"it also occurs in {others}"))
    return findings
