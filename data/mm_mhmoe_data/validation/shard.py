"""Everything that is looked at in one shard, in one process."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mm_mhmoe_data.shards.walk import Member
from mm_mhmoe_data.validation.content import check_json, check_sample
from mm_mhmoe_data.validation.findings import Checks, Finding, ShardReport
from mm_mhmoe_data.validation.salvage import read_member, salvage
from mm_mhmoe_data.validation.samples import Group, group
from mm_mhmoe_data.validation.structure import other_file, survey


def validate_shard(path: Path, checks: Checks, salvage_to: Path | None = None) -> ShardReport:
    """Reads a shard from end to end. Nothing in it raises; memory grows with its members, not with their bytes.

    salvage_to: where the intact samples are written if the shard has errors. Raises `OSError` if that fails.
    """
    report = ShardReport(shard=str(path))

    def found(kind: str, problem: str, **where: Any) -> None:
        report.add(Finding(kind=kind, shard=report.shard, problem=problem, **where))

    intact: list[Group] = []
    try:
        if (other := other_file(path)) is not None:
            found("not_tar", f"it is {other}")
        else:
            intact = _intact(path, checks, report, found)
    except OSError as error:
        found("unreadable", error.strerror or str(error))
    report.intact = len(intact)
    if salvage_to is not None and report.errors:
        report.salvaged = salvage(path, intact, salvage_to)
    return report


def _intact(path: Path, checks: Checks, report: ShardReport, found: Callable[..., None]) -> list[Group]:
    """The samples that can be used; what is wrong is said to `found`."""
    seen = survey(path)
    groups = group(seen.members, seen.breaks, found)
    report.samples, report.sha256 = len(groups), seen.sha256
    report.key_hash_n = key_hashes(one.key for one in groups)
    bad: set[str] = set()
    with path.open("rb") as file:
        for one in groups:
            before = report.errors
            _check_group(one, partial(read_member, file), checks, found)
            if report.errors > before or one.doubtful:
                bad.add(one.key)
    # A sample whose members are apart or twice makes the shard unusable as it is, but can be put together.
    intact = [one for one in groups if one.key not in bad]
    last = sorted(max(member.offset for member in one.parts.values()) for one in intact)
    for damage in seen.damages:
        before = bisect_left(last, damage.at)
        rest = f"{before} intact samples lie before it" + (
            f", {len(last) - before} behind it" if before < len(last) else ""
        )
        found(damage.kind, f"{damage.problem}; {rest}", member=damage.member, at=damage.at)
    if not groups and not report.errors:
        found("empty", "it holds no sample")
    return intact


def _check_group(one: Group, read: Callable[[Member], bytes], checks: Checks, found: Callable[..., None]) -> None:
    def say(kind: str, problem: str, member: Member | None) -> None:
        if one.doubtful and kind in ("no_picture", "no_text"):
            return  # the damage beside it says why
        where = {} if member is None else {"member": member.name, "at": member.offset}
        found(kind, problem, key=one.key, **where)

    check_sample(one.parts, read, checks, say)
    if "json" in one.parts:
        check_json(one.key, one.parts["json"], read, say)


def key_hashes(keys: Iterator[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """64 bits of every key: enough to find those that occur twice among billions, without keeping the keys."""
    digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, np.uint64)


def keys_among(path: Path, wanted: set[int]) -> list[str]:
    """The keys of a shard whose hash is among `wanted`."""
    groups = group(*survey(path)[::2], lambda *args, **where: None)
    hashes = key_hashes(one.key for one in groups).tolist()
    return [one.key for one, hash in zip(groups, hashes, strict=True) if hash in wanted]
