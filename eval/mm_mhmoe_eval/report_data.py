"""What a report shows, as plain dataclasses that go to JSON and back: a report can be re-made from its data.

Units: every score, share and probability is a fraction in [0, 1] (the page prints percent).
Times are seconds. A section that is None, or a list that is empty, is left out of the page.

Metric names (the keys of `ScoreRow.scores`) are those of `retrieval_scores` and `vqa_metrics`:
    image_retrieval_recall@{1,5,10}   a caption looks for its picture
    text_retrieval_recall@{1,5,10}    a picture looks for any of its captions
    vqa                               the official VQAv2 score over all questions
    vqa_answer_type/<type>            the same over the questions of one answer type
    vqa_question_type/<type>          the same over the questions of one question type
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from mm_mhmoe_eval.decode import decode
from mm_mhmoe_eval.files import write_text_atomic

Role = Literal["main", "no_pretraining", "dense", "untrained", "question_only", "chance", "other"]
"""What a row of scores or a curve stands for. It decides order, colour and the verdicts that are computed.

main            pretrained MH-MoE, fine-tuned
no_pretraining  control a: the same fine-tune from random weights
dense           control b: a dense FFN of equal FLOPs, pretrained and fine-tuned the same way
untrained       control c: random weights, no training at all
question_only   control d for VQA: the best answer that can be given without the picture
chance          control d for retrieval: a random ranking
other           anything else; shown, never judged
"""

PictureURI = str
"""A picture as `data:image/...;base64,...`; make it with `picture_uri`."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """How the main model was made. Every field but `wall_seconds` may be left out.

    parameters_total/active: of the encoder; active: what one token uses.
    flops_per_token:         of the encoder, forward.
    seeds:                   of the runs that `ScoreRow.scores` lists, in the same order.
    extra:                   further label -> text pairs, shown as they are.
    """

    wall_seconds: float
    parameters_total: int | None = None
    parameters_active: int | None = None
    flops_per_token: float | None = None
    pretrain_steps: int | None = None
    finetune_steps: int | None = None
    pretrain_samples: int | None = None
    seeds: list[int] = field(default_factory=list)
    git_hash: str | None = None
    machine: str | None = None
    date: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One line of the scores table.

    name:   as printed, for example "MH-MoE, pretrained".
    role:   what the row stands for; at most one row of each role but "other".
    scores: metric name -> one value per seed (one value for a row without seeds, such as chance).
    note:   a few words under the name.
    per_sample: metric name -> the score of each query or question, mean over seeds, in the order of the test; empty
            where it was not recorded.
    """

    name: str
    role: Role
    scores: dict[str, list[float]]
    note: str = ""
    per_sample: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a chart: values[i] at steps[i]. Curves of one role have one colour in every chart."""

    label: str
    steps: list[float]
    values: list[float]
    role: Role = "other"


@dataclass(frozen=True, kw_only=True)
class CurveChart:
    """A chart of curves over one x axis.

    reading: how to read the chart, one or two sentences.
    log_y:   logarithmic y axis; every value must then be positive.
    """

    title: str
    reading: str
    curves: list[Curve]
    x_label: str = "step"
    y_label: str = "loss"
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class PictureHit:
    """A picture that a caption found. caption: the picture's own; score: cosine similarity."""

    picture: PictureURI
    caption: str
    score: float
    correct: bool


@dataclass(frozen=True, kw_only=True)
class TextQuery:
    """A caption that looks for its picture.

    rank:   of the right picture, from 1.
    hits:   the best ones, best first (5 fit a line).
    target: the right picture, shown when it is not among the hits.
    """

    text: str
    rank: int
    hits: list[PictureHit]
    target: PictureURI | None = None


@dataclass(frozen=True, kw_only=True)
class CaptionHit:
    """A caption that a picture found."""

    text: str
    score: float
    correct: bool


@dataclass(frozen=True, kw_only=True)
class PictureQuery:
    """A picture that looks for its captions. captions: its own; rank: of the first of them, from 1."""

    picture: PictureURI
    captions: list[str]
    rank: int
    hits: list[CaptionHit]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Retrieval examples. rule: how they were chosen, as a sentence; so are the other sections' rules."""

    rule: str
    text_queries: list[TextQuery] = field(default_factory=list)
    picture_queries: list[PictureQuery] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class AnswerBar:
    """One of the model's likeliest answers."""

    answer: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class QuestionView:
    """One question, as the model answered it. score: its VQAv2 score; top: likeliest answers, best first."""

    picture: PictureURI
    question: str
    truth: str
    answer: str
    score: float
    top: list[AnswerBar] = field(default_factory=list)
    question_type: str = ""


@dataclass(frozen=True, kw_only=True)
class QuestionSection:
    """VQA examples.

    question_type_counts: questions of each type in the test, for the bars; their scores are in `ScoreRow`.
    """

    rule: str
    examples: list[QuestionView] = field(default_factory=list)
    question_type_counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MaskedView:
    """A picture, what the model saw of it, and its guess.

    reconstruction: the tokenizer's picture of the predicted codes at the masked patches (None: no decoder).
    accuracy:       share of the masked patches whose code is guessed right.
    tokenized:      the tokenizer's picture of the true codes: the best a reconstruction can be.
    """

    original: PictureURI
    masked: PictureURI
    reconstruction: PictureURI | None = None
    tokenized: PictureURI | None = None
    caption: str = ""
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class MaskedSection:
    """Masked pictures.

    accuracy, chance_accuracy: over the whole test set, chance being the commonest code.
    """

    rule: str
    examples: list[MaskedView]
    accuracy: float | None = None
    chance_accuracy: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ExpertLayer:
    """Where one sparse layer sends its sub-tokens.

    layer:        number of the block, as printed.
    image_share:  share of the picture sub-tokens' assignments that each expert gets; sums to 1.
    text_share:   the same for text sub-tokens.
    """

    layer: int
    image_share: list[float]
    text_share: list[float]


@dataclass(frozen=True, kw_only=True)
class ExpertSection:
    """Use of the experts.

    sample:             what the shares are counted on, for example "500 test pairs".
    active_share:       threshold -> share of the experts (over layers) whose load is at least threshold x
                        the even load 1/experts; give several, as no threshold is standard.
    active_share_other: the same for a comparison model, when there is one; other_name says which.
    """

    sample: str
    layers: list[ExpertLayer]
    active_share: dict[str, float] = field(default_factory=dict)
    active_share_other: dict[str, float] = field(default_factory=dict)
    other_name: str = ""


@dataclass(frozen=True, kw_only=True)
class ExpertMap:
    """The first-choice expert of every sub-token of one picture, in one layer.

    grid:    patches along one side.
    experts: [heads][grid * grid], row-major: the expert's number, from 0.
    """

    picture: PictureURI
    layer: int
    grid: int
    experts: list[list[int]]
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class ExpertMapSection:
    """Maps of sub-tokens to experts. num_experts: of one layer."""

    rule: str
    num_experts: int
    maps: list[ExpertMap]


@dataclass(frozen=True, kw_only=True)
class Method:
    """How the report was made. data_card: label -> text."""

    commands: list[str] = field(default_factory=list)
    data_card: dict[str, str] = field(default_factory=dict)
    caveats: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that the report shows.

    summary:    what this is, two sentences for a newcomer; None: the standard one.
    test_pairs: pictures that a caption is searched among; captions: texts that a picture is searched among.
    questions:  VQA questions of the test.
    notice:     a banner over everything, for example that the data is synthetic.
    """

    facts: RunFacts
    scores: list[ScoreRow]
    title: str = "mm-mhmoe"
    summary: str | None = None
    notice: str | None = None
    test_pairs: int | None = None
    captions: int | None = None
    questions: int | None = None
    curves: list[CurveChart] = field(default_factory=list)
    gallery: Gallery | None = None
    vqa: QuestionSection | None = None
    masked: MaskedSection | None = None
    experts: ExpertSection | None = None
    expert_maps: ExpertMapSection | None = None
    method: Method | None = None

    def __post_init__(self) -> None:
        roles = [row.role for row in self.scores if row.role != "other"]
        twice = sorted({role for role in roles if roles.count(role) > 1})
        if twice:
            raise ValueError(f"report: several score rows have role {', '.join(twice)}; a role names one row")

    def row(self, role: Role) -> ScoreRow | None:
        return next((row for row in self.scores if row.role == role), None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ReportData:
        """The inverse of `to_dict`.

        Raises ValueError that names the field that is missing, unknown or mistyped.
        """
        return decode(cls, values, "report")


def save_report_data(data: ReportData, path: str | Path) -> None:
    """Writes the data as JSON, at once or not at all."""
    write_text_atomic(path, json.dumps(data.to_dict(), ensure_ascii=False, allow_nan=False, indent=1))


def load_report_data(path: str | Path) -> ReportData:
    """Reads what `save_report_data` wrote.

    Raises ValueError that names the file when it is something else.
    """
    try:
        return ReportData.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (UnicodeDecodeError, json.JSONDecodeError, ValueError) as error:
        raise ValueError(f"{path} is not report data: {error}") from error


def picture_uri(picture: Tensor | Image.Image, *, max_side: int | None = None) -> PictureURI:
    """A picture as a PNG data URI.

    Args:
        picture: a PIL picture, or (3, H, W) pixels: uint8, or floats in [-1, 1] as the encoder takes them.
        max_side: shrink to this longest side in pixels.
    """
    if isinstance(picture, Tensor):
        pixels = picture.detach().cpu()
        if pixels.dtype != torch.uint8:
            pixels = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    picture = picture.convert("RGB")
    if max_side is not None and max(picture.size) > max_side:
        picture = picture.copy()
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
