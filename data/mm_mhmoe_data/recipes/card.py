"""The data set card, written from the manifest so that its numbers are those of the files beside it."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from . import cards
from .clusters import PER_CAPTION
from .fingerprints import TWIN


def write_card(path: Path, manifest: dict[str, Any]) -> None:
    """Write README.md for the data set that `manifest` describes."""
    splits, arguments = manifest["splits"], manifest["arguments"]
    packages = manifest["source"]["packages"]
    template = files(cards).joinpath("openclipart.md").read_text(encoding="utf-8")
    text = Template(template).substitute(
        train_pictures=splits["train"]["pictures"],
        val_pictures=splits["val"]["pictures"],
        test_pictures=splits["test"]["pictures"],
        all_questions=sum(split["questions"] for split in splits.values()),
        version=manifest["recipe_version"],
        packages=" and ".join(f"`{name}` {version}" for name, version in packages.items()),
        package_names=" ".join(packages),
        split_rows="\n".join(_split_row(name, split) for name, split in splits.items()),
        image_size=arguments["image_size"],
        quality=arguments["quality"],
        phash=TWIN.phash_bits,
        dhash=TWIN.dhash_bits,
        changed=f"{TWIN.changed:.0%}",
        per_caption=PER_CAPTION,
        score_rows=_rows(manifest["question_only_score_on_test"], lambda score: f"{score:.1%}"),
        answer_rows="\n".join(_answers(manifest["question_types"])),
        found=manifest["pictures_in_source"],
        drop_rows=_rows(manifest["dropped"], str),
    )
    path.write_text(text, encoding="utf-8")


def _split_row(name: str, split: dict[str, Any]) -> str:
    numbers = (split[column] for column in ("pictures", "captions", "clusters", "questions"))
    return f"| {name} | {len(split['shards'])} | " + " | ".join(map(str, numbers)) + " |"


def _rows(table: dict[str, Any], show: Any) -> str:
    return "\n".join(f"| {name} | {show(value)} |" for name, value in table.items())


def _answers(types: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    lines = []
    for name, answers in types["train"].items():
        test = types["test"].get(name, {})
        top = [f"{answer} {count}/{test.get(answer, 0)}" for answer, count in list(answers.items())[:12]]
        more = f", and {len(answers) - 12} more" if len(answers) > 12 else ""
        lines.append(f"* `{name}` ({sum(answers.values())}/{sum(test.values())}): {', '.join(top)}{more}")
    return lines
