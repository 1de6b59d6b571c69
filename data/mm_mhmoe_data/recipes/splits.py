"""A split by cluster: no cluster is in two splits, and evaluation captions are unique."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from .clusters import Clusters
from .source import Candidate

_LARGEST_EVALUATION_CLUSTER = 4


def split_by_cluster(
    candidates: Sequence[Candidate],
    clusters: Clusters,
    dropped: Counter[str],
    *,
    seed: int,
    test: int,
    val: int,
    max_train: int | None,
) -> dict[str, list[int]]:
    """Indices of candidates for "train", "val" and "test", in a random order that depends on `seed`.

    Clusters go to test until it holds `test` pictures, then to val, the rest to train. Large families (cards,
    folders, stars) always go to train, or one family would be a tenth of the test. With `max_train`, what is
    least informative (second pictures of a caption) is left out of train first.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i in clusters.kept:
        members[clusters.cluster[i]].append(i)
    order = sorted(members)
    random.Random(f"split {seed}").shuffle(order)

    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    wanted = {"test": test, "val": val}
    used: set[str] = set()
    for cluster in order:
        group = members[cluster]
        name = next((name for name in ("test", "val") if len(splits[name]) < wanted[name]), "train")
        captions = [candidates[i].caption.text for i in group]
        if len(group) > _LARGEST_EVALUATION_CLUSTER or len(set(captions)) < len(group) or used & set(captions):
            name = "train"
        if name != "train":
            used.update(captions)
        splits[name].extend(group)
    if max_train is not None and len(splits["train"]) > max_train:
        ranked = _by_information(candidates, splits["train"], seed)
        dropped["left out to keep the size down"] += len(ranked) - max_train
        splits["train"] = ranked[:max_train]
    for name in splits:
        splits[name].sort()
        random.Random(f"order {seed} {name}").shuffle(splits[name])
    return splits


def _by_information(candidates: Sequence[Candidate], indices: Sequence[int], seed: int) -> list[int]:
    seen: Counter[str] = Counter()
    keys = {}
    for i in sorted(indices, key=lambda i: _draw(candidates[i].path, seed)):
        caption = candidates[i].caption
        keys[i] = (seen[caption.text], _draw(candidates[i].path, seed))
        seen[caption.text] += 1
    return sorted(indices, key=lambda i: keys[i])


def _draw(path: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {path}".encode()).hexdigest()
