"""The recipes of `data build`: each one's options, and what is said when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from mm_mhmoe.commands.sources import data_path


def openclipart(
    root: Path,
    out: Path,
    image_size: int = 96,
    quality: int = 45,
    test: int = 510,
    val: int = 250,
    max_train: int | None = 3480,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Turns Debian's Open Clip Art into shards of captioned drawings, questions and a dataset card.

    Args:
        root: where the packages openclipart-png and openclipart-svg are unpacked (apt-get download
            openclipart-png openclipart-svg; dpkg-deb -x each of them into root).
        out: directory to write; must not exist or be empty.
        image_size: side of the square pictures in pixels.
        quality: of the WebP pictures, 10 to 95.
        test: pictures wanted in the test split.
        val: pictures wanted in the validation split.
        max_train: most pictures in the training split; null takes all there are.
        seed: of the splits and questions; the same seed gives the same bytes.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.openclipart import build_openclipart

    manifest = build_openclipart(
        root,
        out,
        image_size=image_size,
        quality=quality,
        test=test,
        val=val,
        max_train=max_train,
        seed=seed,
        workers=workers,
    )
    counts = ", ".join(f"{name} {split['pictures']:,}" for name, split in manifest["splits"].items())
    Console().print(f"data build: {counts} pairs -> {out}", highlight=False)


def statements(
    out: Path,
    root: Path | None = None,
    train: int = 4_000,
    val: int = 400,
    test: int = 1000,
    about: list[Literal["color", "category", "object", "comparison"]] | None = None,
    seed: int = 0,
) -> None:
    """Makes sentences that are true or false of two pictures, as NLVR2 has them, about clip-art shards.

    Every sentence comes with four pairs of pictures, of which two make it true.

    Args:
        out: directory to write; must not exist or be empty.
        root: what data build openclipart wrote; by default the shipped clip-art.
        train: statements of the training split.
        val: statements of the validation split.
        test: statements of the test split.
        about: what sentences are about, each as often, e.g. '[color]': all four by default.
        seed: the same seed gives the same bytes.
    """
    from mm_mhmoe_data.recipes.statements import SUBJECTS, build_statements

    shards = Path(data_path("demo:train")).parent if root is None else root
    manifest = build_statements(shards, out, train=train, val=val, test=test, about=about or SUBJECTS, seed=seed)
    counts = ", ".join(f"{name} {split['samples']:,}" for name, split in manifest["splits"].items())
    Console().print(f"data build: {counts} statements -> {out}", highlight=False, soft_wrap=True)


def tuxpaint(
    root: Path,
    out: Path,
    image_size: int = 224,
    quality: int = 80,
    samples_per_shard: int = 500,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    limit: int | None = None,
    svg: bool = True,
    workers: int | None = None,
) -> None:
    """Turns Tux Paint's stamps into shards of pictures with captions in English and up to 77 other languages.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: where the package tuxpaint-stamps-default is unpacked (apt-get download tuxpaint-stamps-default;
            dpkg-deb -x it into root).
        out: directory to write.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of the WebP pictures, 1 to 100.
        samples_per_shard: at most.
        val: share of the validation split.
        test: share of the test split.
        seed: of the splits.
        limit: uses only so many stamps, for a trial.
        svg: draws the stamps that there are only as SVG (pip install 'mm-mhmoe[svg]'); false leaves them out.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.tuxpaint import plan_tuxpaint

    plan = plan_tuxpaint(
        root,
        image_size=image_size,
        quality=quality,
        samples_per_shard=samples_per_shard,
        val=val,
        test=test,
        seed=seed,
        limit=limit,
        svg=svg,
        workers=workers,
    )
    build(plan, out, workers)


def debian_handbook(
    root: Path,
    out: Path,
    languages: list[str] | None = None,
    val_chapters: int = 1,
    test_chapters: int = 2,
    samples_per_shard: int = 5000,
    seed: int = 0,
    workers: int | None = None,
) -> None:
    """Turns the Debian Administrator's Handbook into text-only shards, a paragraph a sample.

    The field "paragraph" of KEY.json is the same for the translations of one paragraph. A stopped build goes on
    where it was when the same command is given again.

    Args:
        root: where the package debian-handbook is unpacked (apt-get download debian-handbook; dpkg-deb -x it into
            root).
        out: directory to write.
        languages: some of its languages, e.g. '[en-US,fr-FR]'; all 26 by default.
        val_chapters: whole chapters for the validation split, the same in every language.
        test_chapters: whole chapters for the test split.
        samples_per_shard: at most.
        seed: of the choice of chapters.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.debian_handbook import plan_debian_handbook

    plan = plan_debian_handbook(
        root,
        languages=languages,
        val_chapters=val_chapters,
        test_chapters=test_chapters,
        samples_per_shard=samples_per_shard,
        seed=seed,
    )
    build(plan, out, workers)


def text(
    root: Path,
    out: Path,
    layout: Literal["txt", "jsonl", "wikiextractor", "kjv"] = "txt",
    unit: Literal["document", "paragraph"] = "document",
    text_field: str = "text",
    id_field: str = "id",
    language: str = "",
    licence: str = "unknown",
    val: float = 0.01,
    test: float = 0.01,
    seed: int = 0,
    shard_bytes: int = 32 << 20,
    workers: int | None = None,
) -> None:
    """Turns plain text into text-only shards. The id of a document says which split it is in.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: a file, or a folder with files in any depth.
        out: directory to write.
        layout: txt: a document a file, blank lines between paragraphs. jsonl: an object a line. wikiextractor: files
            wiki_NN of 'wikiextractor --json'. kjv: what 'bible -f gen1:1-rev22:21' of Debian's bible-kjv writes.
        unit: what becomes a sample, a document or each of its paragraphs.
        text_field: field of the text in JSON lines.
        id_field: field of the document's id in JSON lines; without it, file and place are the id.
        language: e.g. en; goes into every KEY.json.
        licence: goes into every KEY.json.
        val: share of the documents for the validation split.
        test: share of the documents for the test split.
        seed: of the splits.
        shard_bytes: bytes of the source that go into a shard, about.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.text import plan_text

    plan = plan_text(
        root,
        layout=layout,
        unit=unit,
        text_field=text_field,
        id_field=id_field,
        language=language,
        licence=licence,
        val=val,
        test=test,
        seed=seed,
        shard_bytes=shard_bytes,
    )
    build(plan, out, workers)


def folder(
    root: Path,
    out: Path,
    captions: Path | None = None,
    image_column: str = "image",
    caption_column: str = "caption",
    split_column: str = "",
    licence: str = "unknown",
    image_size: int = 0,
    quality: int = 90,
    samples_per_shard: int = 1000,
    val: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
) -> None:
    """Turns a folder of pictures into shards: with captions from a table, or with classes from folders' names.

    A stopped build goes on where it was when the same command is given again.

    Args:
        root: the folder of the pictures. Without captions, folders called train, val and test are splits.
        out: directory to write.
        captions: a table, .csv, .tsv, .jsonl or .parquet (pip install 'mm-mhmoe[parquet]'), with a header where it has
            one. Several rows of one picture become one sample, its first caption in KEY.txt, all in KEY.json.
        image_column: the picture's path below root; '' for a table of texts only.
        caption_column: the caption, or a list of captions.
        split_column: train, val or test; by default the shares below decide.
        licence: goes into every KEY.json.
        image_size: shorter side of the pictures in pixels; larger ones are made smaller. 0 keeps the original bytes.
        quality: of WebP pictures, 1 to 100.
        samples_per_shard: at most.
        val: share of the validation split.
        test: share of the test split.
        seed: of the splits.
        limit: uses only so many pictures of each split, for a trial.
        workers: processes; one a core by default.
    """
    from mm_mhmoe_data.recipes.folder import plan_folder

    plan = plan_folder(
        root,
        captions=captions,
        image_column=image_column,
        caption_column=caption_column,
        split_column=split_column,
        licence=licence,
        image_size=image_size,
        quality=quality,
        samples_per_shard=samples_per_shard,
        val=val,
        test=test,
        seed=seed,
        limit=limit,
    )
    build(plan, out, workers)


def build(plan: Any, out: Path, workers: int | None) -> None:
    """Runs a recipe's plan and says what came of it: counts, what was left out, what was expected otherwise."""
    from mm_mhmoe_data.recipes.build import run_plan

    manifest = run_plan(plan, out, workers=workers)
    counts = ", ".join(f"{name} {split['samples']:,}" for name, split in manifest["splits"].items())
    lines = [f"data build: {counts} samples -> {out}"]
    if manifest["dropped"]:
        left_out = ", ".join(f"{reason} ({count:,})" for reason, count in manifest["dropped"].items())
        lines.append(f"left out, see {out / 'dropped.jsonl'}: {left_out}")
    for name, row in manifest["expected"].items():
        if row["expected"] != row["found"]:
            known = f"{name} {row['found']:,}, expected {row['expected']:,}"
            lines.append(f"differs from what is known of this source: {known}")
    for line in lines:
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
