"""The recipe `statements`: an NLVR2-like set about the pictures of shards that the recipe openclipart made.

No picture is copied: a line names two of them by their keys. The lines are those of NLVR2's files, so that its official
script reads them as labels.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from ..shards import expand_shards, iter_samples
from .cards import card
from .files import sha256, write_whole
from .picture_claims import Shown, category_claims, colour_claims, object_claims, read_shown
from .question_words import build_vocabulary
from .statement_groups import PAIRS, Group, comparing, framed, make_groups
from .versions import made_with

SPLITS = ("train", "val", "test")

Subject = Literal["color", "category", "object", "comparison"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)


def build_statements(
    root: Path,
    out: Path,
    *,
    train: int = 4_000,
    val: int = 400,
    test: int = 1000,
    about: Sequence[Subject] = SUBJECTS,
    seed: int = 0,
) -> dict[str, Any]:
    """Write OUT/{train,val,test}.jsonl, a card and a manifest, which is returned.

    The pictures of a split are those of its shards, so the splits share none. Nouns are asked about that are frequent
    in the training pictures.

    Args:
        root: holds the shards train/, val/ and test/.
        train, val, test: statements of the split, rounded down to whole groups.
        about: what sentences are about, each as often: the colour, category or kind of thing of single pictures, or
            two pictures in comparison.

    Raises:
        ValueError: shards of another recipe, too few pictures, or `out` is not empty.
    """
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    if not about or not set(about) <= set(SUBJECTS):
        raise ValueError(f"about={list(about)} must name some of {', '.join(SUBJECTS)}")
    for name, count in counts.items():
        if count < PAIRS:
            raise ValueError(f"{name}={count} must be at least {PAIRS}, the pairs of one sentence")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={str(out)!r} is not empty. Give a folder that does not exist yet.")
    sources = {name: [shard.local() for shard in expand_shards(root / name)] for name in SPLITS}
    shown = {
        name: read_shown(sample for path in paths for sample in iter_samples(path)) for name, paths in sources.items()
    }
    vocabulary = build_vocabulary([each.picture for each in shown["train"]])
    groups = {}
    for name, pictures in shown.items():
        families = {
            "color": framed(colour_claims(pictures)),
            "category": framed(category_claims(pictures)),
            "object": framed(object_claims(pictures, vocabulary)),
            "comparison": comparing(pictures),
        }
        said = [families[family] for family in about]
        groups[name] = make_groups(said, counts[name] // PAIRS, random.Random(f"statements {seed} {name}"))
        write_whole(out / f"{name}.jsonl", _lines(name, groups[name], pictures))
    manifest: dict[str, Any] = {
        "recipe": "statements",
        "version": made_with()["mm-mhmoe"],
        "made_with": made_with(),
        "arguments": {**counts, "about": ", ".join(about), "seed": seed},
        "licence": "as the pictures'",
        "source": {f"{name}/{path.name}": sha256(path) for name, paths in sources.items() for path in paths},
        "splits": {name: _split(groups[name], shown[name]) for name in SPLITS},
        "dropped": {},
        "expected": {},
    }
    write_whole(out / "README.md", _card(manifest).encode())
    names = [*(f"{name}.jsonl" for name in SPLITS), "README.md"]
    manifest["sha256"] = {name: sha256(out / name) for name in names}
    write_whole(out / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _lines(split: str, groups: Iterable[Group], shown: Sequence[Shown]) -> bytes:
    """An identifier is SPLIT-SET-PAIR-SENTENCE, as in NLVR2; here every set has one sentence."""
    rows = [
        {
            "identifier": f"{split}-{number}-{place}-0",
            "sentence": group.sentence.text,
            "label": str(true),
            "left": shown[left].key,
            "right": shown[right].key,
            "type": group.sentence.type,
        }
        for number, group in enumerate(groups)
        for place, ((left, right), true) in enumerate(group.pairs)
    ]
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows).encode()


def _split(groups: Sequence[Group], shown: Sequence[Shown]) -> dict[str, Any]:
    used = {number for group in groups for pair, _ in group.pairs for number in pair}
    types = Counter(group.sentence.type for group in groups)
    return {
        "samples": len(groups) * PAIRS,
        "groups": len(groups),
        "sentences": len({group.sentence.text for group in groups}),
        "pictures": len(used),
        "pictures_in_shards": len(shown),
        "types": {name: count * PAIRS for name, count in sorted(types.items())},
    }


def _card(manifest: dict[str, Any]) -> str:
    columns = ("samples", "groups", "sentences", "pictures")
    rows = [
        f"| {name} | " + " | ".join(f"{split[column]:,}" for column in columns) + " |"
        for name, split in manifest["splits"].items()
    ]
    types = manifest["splits"]["train"]["types"]
    tables = {
        "counts": "\n".join(
            ("| split | statements | groups | different sentences | pictures |", "|---" * 5 + "|", *rows)
        ),
        "types": ", ".join(f"{name} {count:,}" for name, count in types.items()),
    }
    return card({**manifest, "splits": {}, **tables})
