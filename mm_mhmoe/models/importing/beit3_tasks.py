"""Models of BEiT-3 checkpoints by what they were made for: the encoder with their heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.checkpoints import load_weights
from mm_mhmoe.models.importing.beit3 import beit3_encoder
from mm_mhmoe.models.importing.files import Taken, shape_of
from mm_mhmoe.models.tasks import (
    CaptionModel,
    ClassificationModel,
    NLVR2Model,
    PretrainModel,
    RetrievalModel,
    TaskModel,
    VQAModel,
)

Task = Literal["pretrain", "retrieval", "vqa", "nlvr2", "captioning", "imagenet"]

Heads = dict[str, dict[str, Tensor]]
"""By their names here: weights by theirs below that."""

# Told by a weight that no other task has. A captioning model has the names of a pretrained one.
_TOLD_BY: dict[str, Task] = {
    "vision_head.weight": "retrieval",
    "pooler.dense.weight": "vqa",
    "head.dense1.weight": "nlvr2",
    "fc_norm.weight": "imagenet",
}


class _Given(NamedTuple):
    """What a task's model is made of; see `beit3_model`."""

    take: Taken
    weights: Mapping[str, Tensor]
    config: EncoderConfig
    source: str
    num_codes: int
    names: Sequence[str]


def beit3_task(weights: Mapping[str, Tensor]) -> Task:
    """What the heads are for; without any, or with that of words alone: pretraining."""
    return next((task for name, task in _TOLD_BY.items() if name in weights), "pretrain")


def beit3_model(
    weights: Mapping[str, Tensor],
    config: EncoderConfig,
    source: str,
    num_codes: int,
    *,
    task: Task | None = None,
    names: Sequence[str] = (),
) -> TaskModel:
    """The model of a task with this encoder. Heads of other tasks are left out.

    BEiT-3's head of words is taken where it is there (`mlm_head`); its head of visual codes never was.

    Args:
        num_codes: vocabulary of the visual tokenizer that a pretraining model is to predict.
        task: None: what the heads tell.
        names: of the answers of a vqa model, or of the classes of an imagenet model, in the order of its head.

    Raises:
        ValueError: the checkpoint lacks the task's heads, or has them for other numbers of answers or classes.
    """
    task = task or beit3_task(weights)
    encoder = {f"encoder.{name}": value for name, value in beit3_encoder(weights, config, source).items()}
    given = _Given(Taken(weights, prefix="", source=source), weights, config, source, num_codes, names)
    model, heads = _MAKERS[task](given)
    flat = {f"{name}.{part}": value for name, parts in heads.items() for part, value in parts.items()}
    load_weights(model, {**model.state_dict(), **encoder, **flat}, source)
    return model.eval()


def _pretrain(given: _Given) -> tuple[TaskModel, Heads]:
    words = _words(given) if "mlm_head.weight" in given.weights else {}
    return PretrainModel(given.config, given.num_codes), {"text_head": words}


def _retrieval(given: _Given) -> tuple[TaskModel, Heads]:
    take, dim = given.take, given.config.dim
    return RetrievalModel(given.config, dim), {
        "head.image_proj": {"weight": take("vision_head.weight", dim, dim)},
        "head.text_proj": {"weight": take("language_head.weight", dim, dim)},
        "head": {"log_scale": take("logit_scale")},
    }


def _vqa(given: _Given) -> tuple[TaskModel, Heads]:
    take, dim = given.take, given.config.dim
    count = _named(given, "head.3.weight", "answers, such as answer2label.txt of data build vqav2")
    return VQAModel(given.config, given.names), {
        "head.pool.0": take.norm("pooler.norm", dim),
        "head.pool.1": take.linear("pooler.dense", dim, dim),
        "head.classify.0": take.linear("head.0", dim, 2 * dim),
        "head.classify.1": take.norm("head.1", 2 * dim),
        "head.classify.3": take.linear("head.3", 2 * dim, count),
    }


def _nlvr2(given: _Given) -> tuple[TaskModel, Heads]:
    take, dim = given.take, given.config.dim
    return NLVR2Model(given.config), {
        "head.norm": take.norm("head.norm1", 4 * dim),
        "head.hidden": take.linear("head.dense1", 4 * dim, 2 * dim),
        "head.hidden_norm": take.norm("head.norm2", 2 * dim),
        "head.classify": take.linear("head.dense2", 2 * dim, 2),
    }


def _captioning(given: _Given) -> tuple[TaskModel, Heads]:
    return CaptionModel(given.config), {"head": _words(given)}


def _imagenet(given: _Given) -> tuple[TaskModel, Heads]:
    take, dim = given.take, given.config.dim
    count = _named(given, "head.weight", "classes, one a line")
    return ClassificationModel(given.config, given.names), {
        "head.norm": take.norm("fc_norm", dim),
        "head.classify": take.linear("head", dim, count),
    }


def _words(given: _Given) -> dict[str, Tensor]:
    return given.take.linear("mlm_head", given.config.dim, given.config.text.vocab_size)


def _named(given: _Given, head: str, what: str) -> int:
    """How many things the head tells apart; all of them must have names."""
    count, _ = shape_of(given.weights, head, 2, given.source)
    if len(given.names) != count:
        raise ValueError(
            f"{given.source} tells {count:,} apart, but there are {len(given.names):,} names; give the file of its "
            f"{what}, as --names"
        )
    return count


_MAKERS: dict[Task, Callable[[_Given], tuple[TaskModel, Heads]]] = {
    "pretrain": _pretrain,
    "retrieval": _retrieval,
    "vqa": _vqa,
    "nlvr2": _nlvr2,
    "captioning": _captioning,
    "imagenet": _imagenet,
}
