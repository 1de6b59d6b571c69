"""The proof that no picture of one split has a twin in another, recomputed from the shards alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..shards import iter_samples
from .clusters import title_key
from .fingerprints import TWIN, Fingerprint, TwinRule, fingerprint, stack, twin_pairs


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One sample as the checker sees it."""

    key: str
    caption: str
    title: str
    cluster: int
    series: str
    print: Fingerprint


def read_entries(shards: Sequence[Path]) -> list[Entry]:
    """The entries of all samples, with fingerprints computed from the stored pictures."""
    entries = []
    for shard in shards:
        for sample in iter_samples(shard):
            facts = json.loads(sample.parts["json"])
            entries.append(
                Entry(
                    key=sample.key,
                    caption=sample.parts["txt"].decode().strip().lower(),
                    title=facts["title"],
                    cluster=facts["cluster"],
                    series=f"{facts['folder']}/{facts['series']}",
                    print=fingerprint(sample.parts["webp"]),
                )
            )
    return entries


def find_leaks(splits: Mapping[str, Sequence[Entry]], rule: TwinRule = TWIN) -> list[str]:
    """One line per leak between any two splits, and per caption that an evaluation split holds twice.

    All pairs are compared: twin pictures, equal captions, titles equal but for colour and number, shared
    clusters, shared series, shared keys. An empty list is the proof.
    """
    leaks: list[str] = []
    names = list(splits)
    for position, left in enumerate(names):
        for right in names[position + 1 :]:
            leaks.extend(_between(left, splits[left], right, splits[right], rule))
    for name in names:
        if name != "train":
            repeated = [text for text, count in Counter(e.caption for e in splits[name]).items() if count > 1]
            leaks.extend(f"{name} holds the caption {text!r} more than once" for text in sorted(repeated))
    return leaks


def _between(left: str, a: Sequence[Entry], right: str, b: Sequence[Entry], rule: TwinRule) -> list[str]:
    leaks = [
        f"{left}/{a[i].key} and {right}/{b[j].key} are twins in the picture"
        for i, j in twin_pairs(stack([e.print for e in a]), stack([e.print for e in b]), rule)
    ]
    for what, value in (
        ("key", lambda entry: entry.key),
        ("caption", lambda entry: entry.caption),
        ("title", lambda entry: title_key(entry.title)),
        ("cluster", lambda entry: entry.cluster),
        ("series", lambda entry: entry.series),
    ):
        shared = {value(entry) for entry in a} & {value(entry) for entry in b}
        leaks.extend(f"{left} and {right} share the {what} {text!r}" for text in sorted(shared, key=str))
    return leaks
