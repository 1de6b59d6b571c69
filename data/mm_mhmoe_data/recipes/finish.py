"""What stands beside finished shards: sizes, what was dropped, the plan's own files, the card, the manifest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from .cards import card
from .files import sha256, write_whole
from .plan import Plan
from .state import Finished
from .versions import made_with


def write_rest(plan: Plan, out: Path, shards: Sequence[Finished]) -> dict[str, Any]:
    """Write all that is not a shard, the manifest last, and return the manifest.

    Raises `ValueError` when there is not one sample.
    """
    if not any(shard.samples for shard in shards):
        raise ValueError(f"Nothing in the source of recipe {plan.recipe} can be used: {_why(plan, shards)}.")
    names: list[str] = []

    def write(name: str, content: bytes) -> None:
        write_whole(out / name, content)
        names.append(name)

    splits = _splits(shards)
    for split, facts in splits.items():
        write(f"{split}/sizes.json", _json(facts["shards"]))
    write("dropped.jsonl", "".join(f"{line}\n" for line in _dropped_lines(plan, shards)).encode())
    for name, make in plan.files.items():
        write(name, make())
    manifest: dict[str, Any] = {
        "recipe": plan.recipe,
        "version": made_with()["mm-mhmoe"],
        "made_with": made_with(),
        "arguments": dict(plan.arguments),
        **plan.facts,
        "splits": splits,
        "dropped": _dropped_counts(plan, shards),
        "expected": _expected(plan, splits),
    }
    write("README.md", card(manifest).encode())
    manifest["sha256"] = {shard.path: shard.sha256 for shard in shards if shard.samples} | {
        name: sha256(out / name) for name in names
    }
    write_whole(out / "manifest.json", _json(manifest))
    return manifest


def _splits(shards: Sequence[Finished]) -> dict[str, dict[str, Any]]:
    splits: dict[str, dict[str, Any]] = {}
    for shard in shards:
        split, name = PurePosixPath(shard.path).parts
        facts = splits.setdefault(split, {"samples": 0, "shards": {}})
        if shard.samples:
            facts["samples"] += shard.samples
            facts["shards"][name] = shard.samples
    return splits


def _dropped_lines(plan: Plan, shards: Sequence[Finished]) -> list[str]:
    found = [(drop, None) for drop in plan.dropped] + [(drop, shard.path) for shard in shards for drop in shard.dropped]
    return [
        json.dumps({"reason": drop.reason, "what": drop.what, "shard": path}, ensure_ascii=False)
        for drop, path in found
    ]


def _dropped_counts(plan: Plan, shards: Sequence[Finished]) -> dict[str, int]:
    counts = Counter(drop.reason for drop in plan.dropped)
    counts.update(drop.reason for shard in shards for drop in shard.dropped)
    return dict(sorted(counts.items()))


def _why(plan: Plan, shards: Sequence[Finished]) -> str:
    counts = _dropped_counts(plan, shards)
    return ", ".join(f"{reason} ({count})" for reason, count in counts.items()) or "it holds no samples"


def _expected(plan: Plan, splits: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Expected and found for each known count."""
    counts: Mapping[str, int] = plan.facts.get("counts", {})
    return {
        name: {"expected": number, "found": splits[name]["samples"] if name in splits else counts.get(name, 0)}
        for name, number in plan.expected.items()
    }


def _json(content: object) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
