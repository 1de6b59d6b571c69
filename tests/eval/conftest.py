"""Report data that is made up, for the tests of the report. To look at it:

python tests/eval/conftest.py /tmp/report.html
"""

from __future__ import annotations

import math
import random
import sys

import pytest
from mm_mhmoe_eval.report_data import (
    AnswerBar,
    CaptionHit,
    Curve,
    CurveChart,
    ExpertLayer,
    ExpertMap,
    ExpertMapSection,
    ExpertSection,
    Gallery,
    MaskedSection,
    MaskedView,
    Method,
    PictureHit,
    PictureQuery,
    QuestionSection,
    QuestionView,
    ReportData,
    Role,
    RunFacts,
    ScoreRow,
    TextQuery,
    picture_uri,
)
from PIL import Image, ImageDraw

_SIDE = 112
_GRID = 8
_COLOURS = {"red": "#d43a2f", "blue": "#2c6fbb", "green": "#3a9a50", "yellow": "#f0c030", "purple": "#7c4aa5"}
_SHAPES = ("circle", "square", "star", "house", "tree", "fish")


def _draw(colour: str, shape: str, seed: int) -> Image.Image:
    """A drawing of its caption, "a red house", in slightly varying places."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (_SIDE, _SIDE), "white")
    pen = ImageDraw.Draw(picture)
    x, y, r = 56 + rng.randint(-8, 8), 56 + rng.randint(-8, 8), rng.randint(26, 36)
    fill, line = _COLOURS[colour], "#222222"
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=line, width=2)
    elif shape == "square":
        pen.rectangle((x - r, y - r, x + r, y + r), fill=fill, outline=line, width=2)
    elif shape == "star":
        spots = []
        for i in range(10):
            length = r if i % 2 == 0 else r * 0.42
            angle = math.pi * i / 5 - math.pi / 2
            spots.append((x + length * math.cos(angle), y + length * math.sin(angle)))
        pen.polygon(spots, fill=fill, outline=line)
    elif shape == "house":
        pen.rectangle((x - r, y - r // 4, x + r, y + r), fill=fill, outline=line, width=2)
        pen.polygon([(x - r - 5, y - r // 4), (x, y - r), (x + r + 5, y - r // 4)], fill="#804020", outline=line)
    elif shape == "tree":
        pen.rectangle((x - 5, y, x + 5, y + r), fill="#70481f")
        pen.ellipse((x - r * 0.8, y - r, x + r * 0.8, y + r * 0.5), fill=fill, outline=line, width=2)
    else:
        pen.ellipse((x - r, y - r * 0.55, x + r * 0.7, y + r * 0.55), fill=fill, outline=line, width=2)
        pen.polygon([(x + r * 0.5, y), (x + r, y - r * 0.5), (x + r, y + r * 0.5)], fill=fill, outline=line)
    return picture


def _masked(picture: Image.Image, seed: int) -> Image.Image:
    rng = random.Random(seed)
    masked, step = picture.copy(), _SIDE // _GRID
    pen = ImageDraw.Draw(masked)
    for patch in rng.sample(range(_GRID * _GRID), 26):
        x, y = patch % _GRID * step, patch // _GRID * step
        pen.rectangle((x, y, x + step - 1, y + step - 1), fill="#9a9a9a")
    return masked


def _blurred(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size)).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)


def _scores(rng: random.Random, seeds: int, level: float, vqa: float) -> dict[str, list[float]]:
    def around(value: float) -> list[float]:
        return [min(1.0, max(0.0, value + rng.uniform(-0.012, 0.012))) for _ in range(seeds)]

    return {
        **{f"image_retrieval_recall@{k}": around(level * part) for k, part in ((1, 0.22), (5, 0.7), (10, 1.0))},
        **{f"text_retrieval_recall@{k}": around(level * part) for k, part in ((1, 0.2), (5, 0.66), (10, 0.96))},
        **_vqa(around, vqa),
    }


def _vqa(around, level: float) -> dict[str, list[float]]:  # type: ignore[no-untyped-def]
    kinds = {"answer_type/other": -0.08, "answer_type/yes-no": 0.1, "question_type/what is this": -0.05}
    kinds |= {
        "question_type/what colour": -0.02,
        "question_type/is there a": 0.11,
        "question_type/is it a": 0.09,
    }
    return {"vqa": around(level), **{f"vqa_{name}": around(level + shift) for name, shift in kinds.items()}}


def _decay(start: float, end: float, steps: int, seed: int) -> tuple[list[float], list[float]]:
    rng = random.Random(seed)
    xs = [float(x) for x in range(0, steps + 1, 5)]
    return xs, [end + (start - end) * math.exp(-4 * x / steps) + rng.gauss(0, 0.04) for x in xs]


def make_report(seeds: int = 3) -> ReportData:
    """Every section, filled with numbers that look like a run but are none."""
    rng = random.Random(0)
    items = [(colour, shape) for shape in _SHAPES for colour in _COLOURS]
    captions = [f"{colour} {shape}" for colour, shape in items]
    pictures = [picture_uri(_draw(colour, shape, i)) for i, (colour, shape) in enumerate(items)]

    rows: list[tuple[str, Role, str, float, float]] = [
        ("MH-MoE, pretrained", "main", "masked pretraining, then fine-tuning", 0.44, 0.63),
        ("MH-MoE, not pretrained", "no_pretraining", "the same fine-tuning from random weights", 0.31, 0.575),
        ("Dense FFN, pretrained", "dense", "equal FLOPs per token", 0.425, 0.62),
        ("MH-MoE, untrained", "untrained", "random weights", 0.021, 0.02),
    ]
    scores = [
        ScoreRow(name=name, role=role, note=note, scores=_scores(rng, seeds, level, vqa))
        for name, role, note, level, vqa in rows
    ]
    blind = _vqa(lambda value: [value], 0.49)
    scores.append(ScoreRow(name="Answering blind", role="question_only", note="the picture is not shown", scores=blind))
    sides = ("image", "text")
    chance = {f"{side}_retrieval_recall@{k}": [k / 500] for side in sides for k in (1, 5, 10)}
    scores.append(ScoreRow(name="Chance", role="chance", note="random ranking", scores=chance))

    text_queries = []
    for number, rank in enumerate((1, 3, 41, 1, 12, 2)):
        right = number * 4
        others = rng.sample([i for i in range(len(items)) if i != right], 5)
        shown = [right if place == rank else others[place - 1] for place in range(1, 6)]
        hits = [
            PictureHit(picture=pictures[i], caption=captions[i], score=0.7 - 0.04 * place, correct=i == right)
            for place, i in enumerate(shown)
        ]
        text_queries.append(TextQuery(text=captions[right], rank=rank, hits=hits, target=pictures[right]))
    picture_queries = []
    for number, rank in enumerate((1, 2, 1, 17)):
        right = number * 5 + 2
        others = rng.sample([i for i in range(len(items)) if i != right], 5)
        shown = [right if place == rank else others[place - 1] for place in range(1, 6)]
        found = [CaptionHit(text=captions[i], score=0.7 - 0.05 * p, correct=i == right) for p, i in enumerate(shown)]
        query = PictureQuery(picture=pictures[right], captions=[captions[right]], rank=rank, hits=found)
        picture_queries.append(query)

    asked = []
    for number, score in enumerate((1.0, 1.0, 0.0, 0.6, 1.0, 0.0)):
        i = number * 4 + 1
        colour, shape = items[i]
        question, truth, wrong = (
            ("What colour is this?", colour, "orange") if number % 2 else ("What is this?", shape, "flower")
        )
        answer = truth if score else wrong
        rest = [name for name in ("bird", "grey", "yes") if name != answer][:2]
        bars = [
            AnswerBar(answer=name, probability=p) for name, p in zip([answer, *rest], (0.62, 0.2, 0.05), strict=True)
        ]
        asked.append(
            QuestionView(picture=pictures[i], question=question, truth=truth, answer=answer, score=score, top=bars)
        )

    views = []
    for i in (3, 9, 17, 22):
        original = _draw(*items[i], i)
        views.append(
            MaskedView(
                original=pictures[i],
                masked=picture_uri(_masked(original, i)),
                reconstruction=picture_uri(_blurred(original, 9)),
                tokenized=picture_uri(_blurred(original, 18)),
                caption=captions[i],
                accuracy=0.2 + i / 100,
            )
        )

    def share(bias: int) -> list[float]:
        raw = [rng.uniform(0.5, 1.5) + (1.2 if expert == bias else 0) for expert in range(8)]
        return [value / sum(raw) for value in raw]

    layers = [ExpertLayer(layer=n, image_share=share(n % 8), text_share=share((n + 3) % 8)) for n in (2, 4, 6)]
    maps = []
    for i in (9, 15, 22):
        grey = _draw(*items[i], i).convert("L").resize((_GRID, _GRID))
        dark = [grey.getpixel((x, y)) < 200 for y in range(_GRID) for x in range(_GRID)]
        heads = [[(head * 3 + 2 * inside + (rng.random() < 0.15)) % 8 for inside in dark] for head in range(4)]
        maps.append(ExpertMap(picture=pictures[i], layer=4, grid=_GRID, experts=heads, caption=captions[i]))

    def curve(label: str, start: float, end: float, steps: int, seed: int, role: Role = "other") -> Curve:
        xs, ys = _decay(start, end, steps, seed)
        return Curve(label=label, steps=xs, values=ys, role=role)

    reading = "How to read it: lower is better; the control sees the same data in the same order."
    charts = [
        CurveChart(
            title="Pretraining, hidden patches",
            reading=reading,
            curves=[curve("MH-MoE", 7.6, 4.1, 900, 1, "main"), curve("dense", 7.6, 4.4, 900, 2, "dense")],
        ),
        CurveChart(
            title="Pretraining, hidden words",
            reading=reading,
            curves=[curve("MH-MoE", 7.4, 3.2, 900, 3, "main"), curve("dense", 7.4, 3.5, 900, 4, "dense")],
        ),
        CurveChart(
            title="Fine-tuning on retrieval",
            reading=reading,
            curves=[
                curve("pretrained", 4.2, 1.6, 400, 5, "main"),
                curve("not pretrained", 4.6, 2.3, 400, 6, "no_pretraining"),
                curve("dense, pretrained", 4.3, 1.7, 400, 7, "dense"),
            ],
        ),
        CurveChart(
            title="Picture tokenizer",
            reading="How to read it: lower is better for the loss, higher for the share of codes in use.",
            curves=[curve("loss", 1.0, 0.35, 300, 8), curve("codes in use", 0.1, 0.9, 300, 9)],
            y_label="loss, share",
        ),
    ]
    return ReportData(
        notice="Synthetic data: none of these numbers comes from a model. The page is a test of its layout.",
        facts=RunFacts(
            wall_seconds=612,
            parameters_total=6_312_448,
            parameters_active=3_981_120,
            flops_per_token=7.96e6,
            pretrain_steps=900,
            finetune_steps=400,
            pretrain_samples=115_200,
            seeds=list(range(seeds)),
            git_hash="0123456789",
            machine="2 CPU cores, made up",
            date="2025-01-01",
        ),
        scores=scores,
        test_pairs=500,
        captions=500,
        questions=1200,
        curves=charts,
        gallery=Gallery(
            rule="The first six captions and four pictures of a draw with seed 0; nobody picked them.",
            text_queries=text_queries,
            picture_queries=picture_queries,
        ),
        vqa=QuestionSection(
            rule="The first six questions of a draw with seed 0; nobody picked them.",
            examples=asked,
            question_type_counts={"what is this": 400, "what colour": 350, "is there a": 250, "is it a": 200},
        ),
        masked=MaskedSection(
            rule="The first four pictures of a draw with seed 0; nobody picked them.",
            examples=views,
            accuracy=0.312,
            chance_accuracy=0.14,
        ),
        experts=ExpertSection(
            sample="500 test pairs",
            layers=layers,
            active_share={"0.01": 1.0, "0.1": 1.0, "0.5": 0.83, "1": 0.42},
            active_share_other={"0.01": 0.9, "0.1": 0.71, "0.5": 0.5, "1": 0.3},
            other_name="MoE without heads",
        ),
        expert_maps=ExpertMapSection(
            rule="The first three pictures of a draw with seed 0; nobody picked them.",
            num_experts=8,
            maps=maps,
        ),
        method=Method(
            commands=["mm-mhmoe demo --out runs/demo", "mm-mhmoe report --data runs/demo/report.json"],
            data_card={
                "Source": "drawings made by the test",
                "Licence": "public domain",
                "Split": "by near-duplicate group, so that no test picture has a twin in training",
            },
            caveats=[
                "Small model, small pictures, minutes of training: numbers compare rows of this table only.",
                "Questions are made from titles by templates; they are easier than those that people ask.",
            ],
        ),
    )


@pytest.fixture(scope="session")
def report() -> ReportData:
    return make_report()


if __name__ == "__main__":
    from mm_mhmoe_eval.report import write_report

    write_report(make_report(), sys.argv[1])
