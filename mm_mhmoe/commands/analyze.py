from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.language.tokens import check_languages
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from rich.console import Console

from mm_mhmoe.analysis.figures.diversity import WordPoints, against_ambiguity, by_kind, over_training
from mm_mhmoe.analysis.figures.languages import by_language
from mm_mhmoe.analysis.figures.load import activation, expert_load
from mm_mhmoe.analysis.figures.maps import assignment_maps
from mm_mhmoe.analysis.figures.style import Drawing, render
from mm_mhmoe.commands.analyze_tables import agreement_table, load_table
from mm_mhmoe.commands.analyzed_model import SWEEP, AnalyzedModel, short_names
from mm_mhmoe.commands.expert_views import picture_choices
from mm_mhmoe.commands.language_routing import language_routing, widest_words
from mm_mhmoe.commands.routing_agreement import agreement
from mm_mhmoe.commands.routing_record import record_routing
from mm_mhmoe.commands.showcase import draw
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.commands.word_spread import FEWEST_WORDS, ambiguous_words, word_diversity, word_points
from mm_mhmoe.models.checkpoints import load, read_config, resolve
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.training.checkpoint_io import write_atomically

FORMAT = 2


def analyze(
    model: str,
    out: Path,
    shards: str = "demo:test",
    compare: list[str] | str | None = None,
    samples: int = 400,
    threshold: float = 0.5,
    pictures: int = 3,
    words: str | None = None,
    category: str = "category",
    min_captions: int = 5,
    languages: list[str] | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> None:
    """Where a model's routers send its sub-tokens: analysis.json, figures (PNG) and a table.

    Args:
        model: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME; a pretrain, retrieval, vqa or language model.
        out: directory for analysis.json and the figures; files of an earlier call are replaced.
        shards: pairs to run the encoder on: a folder, glob, list or address of .tar files, or demo:test. A vqa model
            gets captions in place of questions; for a language model texts.
        compare: models to set beside it, separated by commas.
        samples: pairs to run on; a seeded draw where the shards hold more.
        threshold: in the bars, an expert is in use above so many times its even load.
        pictures: pictures in the assignment maps; 0 makes none.
        words: shards whose captions and categories say how ambiguous a word is; without it, those of --shards.
        category: field of a sample's .json that holds the category of its picture.
        min_captions: captions that a word must be in for its ambiguity to count.
        languages: for a language model, only texts of these ('[en-US]').
        batch_size: pairs at a time.
        seed: of the draws and of the bootstrap.
    """
    _check(samples=samples, min_captions=min_captions, batch_size=batch_size, pictures=pictures, threshold=threshold)
    others = compare.split(",") if isinstance(compare, str) else compare or []
    configs = _configs([model, *others])
    of_pictures = _of_pictures(configs)
    dataset = ShardDataset(data_path(shards), "pairs" if of_pictures else "texts")
    there = range(len(dataset)) if languages is None else _of_languages(dataset, languages)
    chosen = [there[place] for place in sorted(draw(samples, len(there), seed))]
    names = short_names(list(configs))
    analyzed = [
        _run(name, source, config, dataset, chosen, batch_size)
        for name, (source, config) in zip(names, configs.items(), strict=True)
    ]
    sparse = [one for one in analyzed if one.is_sparse]
    split = [one for one in sparse if one.heads > 1]
    report: dict[str, Any] = {one.name: one.statistics() for one in analyzed}
    left_out = _missing(
        [one.name for one in analyzed if not one.is_sparse],
        "dense feed-forward layers, so nothing is routed: every token uses the same one.",
    )

    loads = {one.name: one.loads() for one in sparse}
    drawings = {
        "activation.png": activation(loads, threshold=threshold, sweep=SWEEP),
        "expert_load.png": expert_load(loads),
    }
    points: dict[str, WordPoints] = {}
    if split:
        drawings["diversity.png"] = by_kind({one.name: one.by_kind() for one in split})
        if pictures and of_pictures:
            drawings["assignment_maps.png"] = _maps(split[0], dataset, count=pictures, seed=seed)
        word_shards = dataset if words is None else ShardDataset(data_path(words))
        points = (
            {}
            if not of_pictures
            else _points(split, dataset, chosen, word_shards, field=category, fewest=min_captions, seed=seed)
        )
        courses = {one.name: course for one in split if (course := one.course()) is not None}
        if courses:
            drawings["diversity_training.png"] = over_training(courses)
        for name, course in courses.items():
            report[name]["training"] = dict(course.points)
        left_out += _missing(
            [one.name for one in split if one.name not in courses],
            "no routing statistics in the logs (run.routing_every), so no diversity over training.",
        )
        left_out += _missing(
            [one.name for one in split if one.name not in points and of_pictures],
            f"fewer than {FEWEST_WORDS} words stand in {min_captions} captions whose samples have a {category!r} in "
            "their .json, so no diversity against ambiguity; see --words, --category, --min_captions.",
        )
    else:
        left_out.append("No model splits its tokens (encoder.ffn=mh_moe), so there is no sub-token diversity.")
    if points:
        drawings["word_ambiguity.png"] = against_ambiguity(points)
        for name, found in points.items():
            report[name]["words"] = found._asdict()
    if not of_pictures:
        texts = [dataset.caption(index) for index in chosen]
        by_model = {one.name: language_routing(one, dataset, chosen, seed=seed) for one in sparse}
        told = {name: found for name, found in by_model.items() if found is not None}
        for one in sparse:
            report[one.name]["widest_words"] = widest_words(one, texts)
            if one.name in told:
                report[one.name]["languages"] = told[one.name].to_dict()
        if told:
            counts = {name: found.counts for name, found in told.items()}
            drawings["languages.png"] = by_language(counts, next(iter(told.values())).languages)
    agreements = [agreement(sparse[0], other, seed=seed) for other in sparse[1:]]

    out.mkdir(parents=True, exist_ok=True)
    for file, drawing in drawings.items():
        write_atomically(out / file, render(drawing))
    content = {
        "format": FORMAT,
        "shards": shards,
        "words": words or shards,
        "samples": len(chosen),
        "samples_in_shards": len(dataset),
        "seed": seed,
        "models": report,
        "agreement": agreements,
        "figures": {file: drawing.caption for file, drawing in drawings.items()},
        "left_out": left_out,
    }
    text = json.dumps(_without_nan(content), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(out / "analysis.json", f"{text}\n".encode())

    console = Console()
    console.print(
        load_table(report, title=f"Routing of {len(chosen):,} {'pairs' if of_pictures else 'texts'} of {shards}")
    )
    if agreements:
        console.print(agreement_table(agreements))
    for one in analyzed if not of_pictures else []:
        console.print(*_of_language(one.name, report[one.name]), sep="\n", highlight=False)
    for sentence in (*map(_told, points, points.values()), *left_out):
        console.print(sentence, highlight=False)
    console.print(f"{out}: analysis.json, {', '.join(drawings)}", highlight=False, style="dim")


def _check(**values: float) -> None:
    for name, least in {"samples": 1, "min_captions": 2, "batch_size": 1, "pictures": 0, "threshold": 0}.items():
        if values[name] < least:
            raise ValueError(f"{name}={values[name]} must be {least} or more")


def _configs(sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Source -> config.json. Raises ValueError when nothing is routed anywhere, before any weights are read."""
    repeated = {source for source in sources if sources.count(source) > 1}
    if repeated:
        raise ValueError(f"compare: {', '.join(sorted(repeated))} is given twice; leave one out")
    configs = {source: read_config(source) for source in sources}
    for source, config in configs.items():
        if "encoder" not in config:
            raise ValueError(f"{source} is a {config.get('kind')} model; it has no encoder whose routing could be told")
    if all(config["encoder"]["ffn"] == "dense" for config in configs.values()):
        raise ValueError(
            f"{' and '.join(sources)}: dense feed-forward layers only, so nothing is routed; "
            "give a model with encoder.ffn=moe or mh_moe, here or to --compare"
        )
    return configs


def _of_pictures(configs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the models are of pictures and texts, not language models. Raises ValueError for some of both."""
    found = {config["kind"] != "language" for config in configs.values()}
    if len(found) > 1:
        raise ValueError(f"{' and '.join(configs)}: language models cannot be set beside models of pictures")
    return found.pop()


def _of_languages(dataset: ShardDataset, languages: Sequence[str]) -> list[int]:
    named = [str(dataset.metadata(index).get("language", "")) for index in range(len(dataset))]
    check_languages(languages, set(named))
    return [index for index, name in enumerate(named) if name in languages]


def _run(
    name: str, source: str, config: dict[str, Any], dataset: ShardDataset, chosen: Sequence[int], batch_size: int
) -> AnalyzedModel:
    directory = resolve(source)
    model = load(directory)
    assert isinstance(model, TaskModel)
    tokenizer = Tokenizer.load(directory)
    tokenizer.check(model.text)
    model = model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return AnalyzedModel(
        name=name,
        source=source,
        directory=directory,
        kind=config["kind"],
        model=model,
        tokenizer=tokenizer,
        record=record_routing(model, dataset, tokenizer, chosen, batch_size=batch_size),
    )


def _maps(one: AnalyzedModel, dataset: ShardDataset, *, count: int, seed: int) -> Drawing:
    views = picture_choices(one.model, dataset, one.tokenizer, count=count, seed=seed)
    return assignment_maps(
        [(view.caption, view.pixels_CHW, view.first_HN) for view in views],
        num_experts=one.num_experts,
        layer=views[0].layer + 1,
        name=one.name,
    )


def _points(
    models: Sequence[AnalyzedModel],
    dataset: ShardDataset,
    chosen: Sequence[int],
    word_shards: ShardDataset,
    *,
    field: str,
    fewest: int,
    seed: int,
) -> dict[str, WordPoints]:
    captions = [dataset.caption(index) for index in chosen]
    found = {}
    for one in models:
        words = ambiguous_words(word_shards, one.tokenizer, field=field, fewest=fewest)
        diversity = word_diversity(one.record, captions, one.tokenizer, one.model.text.max_length, one.num_experts)
        points = word_points(words, diversity, seed=seed)
        if points is not None:
            found[one.name] = points
    return found


def _missing(names: Sequence[str], what: str) -> list[str]:
    return [f"{', '.join(names)}: {what}"] if names else []


def _told(name: str, points: WordPoints) -> str:
    low, high = points.interval
    verdict = "spread wider" if low > 0 else "spread less" if high < 0 else "spread neither clearly wider nor less"
    return (
        f"{name}: ambiguous words {verdict}; rank correlation {points.correlation:+.2f} "
        f"(95%: {low:+.2f} to {high:+.2f}) over {len(points.words)} words, {points.partial:+.2f} at equal frequency."
    )


def _of_language(name: str, found: Mapping[str, Any]) -> list[str]:
    """Sentences about languages and words."""
    lines = []
    if "languages" in found:
        told, by_chance = (found["languages"][key] for key in ("information_bits", "information_bits_by_chance"))
        each = ", ".join(f"layer {layer} {bits:.3f} (by chance {by_chance[layer]:.3f})" for layer, bits in told.items())
        lines.append(f"{name}: bits that an expert tells of the language: {each}")
    if found.get("widest_words"):
        words = [f"{word} {spread:.1f}" for word, spread in found["widest_words"].items()][:8]
        lines.append(f"{name}: words that spread widest over experts: {', '.join(words)}")
    return lines


def _without_nan(value: Any) -> Any:
    """JSON has no nan: None stands for what could not be told."""
    if isinstance(value, dict):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
