"""What the page can ask of models: pictures for a text; captions, answers and experts for a picture.

Shapes: C channels, E embedding, H heads, N patches, M pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.transforms import EvalTransform
from mm_mhmoe_eval.protocol import AnswersQuestions, Captions, EmbedsPairs, PreparesInputs
from mm_mhmoe_eval.retrieval import top_k
from torch import Tensor

from mm_mhmoe.analysis.routing_sums import first_choices
from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.commands.evaluate import Judged
from mm_mhmoe.models.tasks import TaskModel

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Index:
    """Embeddings of the shards' pictures and captions, rows as in the dataset."""

    dataset: ShardDataset
    image_ME: Tensor
    text_ME: Tensor


class Engine:
    """Models of one machine, asked one question at a time.

    Args:
        models: each is used for what it can do; the first that can do a thing does it.
        dataset: pictures to find.
        workers: processes that read the pictures ahead.

    Raises ValueError when no model can do anything that the page offers.
    """

    def __init__(self, models: Sequence[Judged], dataset: ShardDataset, *, workers: int = 0) -> None:
        self.finder = next((judged for judged in models if isinstance(judged.model, EmbedsPairs)), None)
        self.answerer = next((judged for judged in models if isinstance(judged.model, AnswersQuestions)), None)
        self.writer = next((judged for judged in models if isinstance(judged.model, Captions)), None)
        self.sparse = next((judged for judged in models if _is_sparse(judged.model)), None)
        if not (self.finder or self.answerer or self.writer or self.sparse):
            raise ValueError(
                "model: none of the models finds pictures, answers questions, writes captions or has experts; give one "
                "of finetune retrieval, vqa or captioning"
            )
        self.dataset = dataset
        self._lock = threading.Lock()
        self.index = self._embed(self.finder, dataset, workers) if self.finder else None

    def about(self) -> dict[str, Any]:
        """What can be asked, and of which model."""
        able = {"find": self.finder, "answer": self.answerer, "write": self.writer, "experts": self.sparse}
        return {
            "pictures": len(self.dataset),
            "models": {name: judged.facts.name for name, judged in able.items() if judged is not None},
        }

    def find(self, query: str, count: int) -> list[dict[str, Any]]:
        """The pictures that fit the text best. Raises ValueError without a model that embeds."""
        if self.finder is None or self.index is None:
            raise ValueError("no model that finds pictures is served; give one of finetune retrieval")
        with self._lock, torch.no_grad():
            text_1E = self.finder.model.embed_texts(_texts(self.finder, query))  # type: ignore[operator]
            places, scores = top_k(text_1E, self.index.image_ME, count)
        return [
            {"place": place, "caption": self.dataset.caption(place), "score": round(score, 4)}
            for place, score in zip(places[0].tolist(), scores[0].tolist(), strict=True)
        ]

    def look(self, picture_CHW: Tensor, question: str = "", *, count: int = 5) -> dict[str, Any]:
        """What the models say of a picture: a caption, captions of others, answers, experts, where some model can."""
        seen: dict[str, Any] = {}
        with self._lock, torch.no_grad():
            if self.finder is not None and self.index is not None:
                image_1E = self.finder.model.embed_images(_images(self.finder, picture_CHW))  # type: ignore[operator]
                places, scores = top_k(image_1E, self.index.text_ME, count)
                seen["captions"] = [
                    {"text": self.dataset.caption(place), "score": round(score, 4)}
                    for place, score in zip(places[0].tolist(), scores[0].tolist(), strict=True)
                ]
            if self.writer is not None:
                seen["written"] = self._written(self.writer, picture_CHW)
            if self.answerer is not None and question:
                seen["answers"] = self._answers(self.answerer, picture_CHW, question, count)
            if self.sparse is not None:
                seen["experts"] = self._experts(self.sparse, picture_CHW)
        return seen

    def _written(self, judged: Judged, picture_CHW: Tensor) -> str:
        model: Any = judged.model
        return _tokenizer(judged).decode(model.write_captions(_images(judged, picture_CHW))[0])

    def _answers(self, judged: Judged, picture_CHW: Tensor, question: str, count: int) -> list[dict[str, Any]]:
        model: Any = judged.model
        pairs = ImageTextBatch(images=_images(judged, picture_CHW), texts=_texts(judged, question))
        best = model.answer_logits(pairs)[0].float().sigmoid().topk(min(count, len(model.answers)))
        return [
            {"text": model.answers[index], "score": round(probability, 4)}
            for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def _experts(self, judged: Judged, picture_CHW: Tensor) -> dict[str, Any]:
        """The first-choice expert of every head at every patch, in every sparse layer."""
        model: Any = judged.model
        output = model.encoder(ImageTextBatch(images=_images(judged, picture_CHW)))
        layers = [
            {"layer": layer.layer + 1, "heads": first_choices(output, layer)[1:].t().tolist()}  # without [CLS]
            for layer in output.routing
        ]
        return {"grid": model.vision.grid, "num_experts": model.config.moe.num_experts, "layers": layers}

    @torch.no_grad()
    def _embed(self, judged: Judged, dataset: ShardDataset, workers: int) -> Index:
        model: Any = judged.model
        images, texts = [], []
        for batch in iterate_pairs(
            dataset, _tokenizer(judged), model.vision, model.text, BATCH, transform=_transform(model), workers=workers
        ):
            images.append(model.embed_images(batch.images).float())
            texts.append(model.embed_texts(batch.texts).float())
        return Index(dataset=dataset, image_ME=torch.cat(images), text_ME=torch.cat(texts))


def _is_sparse(model: object) -> bool:
    return isinstance(model, TaskModel) and model.config.ffn != "dense"


def _transform(model: Any) -> Any:
    return model.transform if isinstance(model, PreparesInputs) else EvalTransform(model.vision.image_size)


def _tokenizer(judged: Judged) -> Any:
    return judged.model.tokenizer if isinstance(judged.model, PreparesInputs) else judged.tokenizer


def _images(judged: Judged, picture_CHW: Tensor) -> Images:
    return Images(pixels_BCHW=_transform(judged.model)(picture_CHW).unsqueeze(0))


def _texts(judged: Judged, text: str) -> Texts:
    config: Any = judged.model.text
    return collate_texts([_tokenizer(judged).encode(text, config.max_length)], config.pad_id, config.max_length)
