"""Batches for evaluation: every sample once, in order, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mm_mhmoe.batch import ImageTextBatch, NLVR2Batch, Texts, VQABatch
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.questions import Questions
from mm_mhmoe_data.ring import Empty, step_loader
from mm_mhmoe_data.samples import Captions, Picks, Pictures, Stream, in_order
from mm_mhmoe_data.sampling import Pick, StepSampler
from mm_mhmoe_data.statements import StatementBatches, Statements
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import EvalTransform, Transform
from mm_mhmoe_data.vqa_data import VQAExample


def iterate_pairs(
    dataset: ShardDataset,
    tokenizer: Tokenizer,
    vision: VisionConfig,
    text: TextConfig,
    batch_size: int,
    *,
    stream: Parts = "pairs",
    image_mask: float = 0.0,
    text_mask: float = 0.0,
    seed: int = 0,
    chosen: Sequence[int] | None = None,
    transform: Transform | None = None,
    workers: int = 0,
) -> Iterator[ImageTextBatch]:
    """All pairs, or those of these places in this order; masked where a ratio is given.

    Masks depend on the seed, the stream and the sample only. Of the streams of pictures and of texts, a pair's other
    half is left out.

    Args:
        transform: brings pictures to the model's size; by default as `EvalTransform` does it.
        workers: processes that make batches ahead. A batch's pixels then stay as they are while four further ones are
            asked for (`step_loader`).
    """
    transform = transform or EvalTransform(vision.image_size)
    pictures = Pictures(dataset, transform, grid=vision.grid, stream=stream, seed=seed, mask_ratio=image_mask)
    captions = Captions(dataset, tokenizer, text, stream=stream, seed=seed, mask_ratio=text_mask)
    picks = in_order(len(dataset) if chosen is None else len(chosen), batch_size)
    if chosen is not None:
        picks = [[Pick(pick.epoch, chosen[pick.sample]) for pick in part] for part in picks]
    parts = (None if stream == "texts" else pictures, None if stream == "images" else captions)
    yield from _batches(Stream(dataset, *parts), picks, workers)


def iterate_texts(texts: Sequence[str], tokenizer: Tokenizer, text: TextConfig, batch_size: int) -> Iterator[Texts]:
    """These texts in this order, tokenized."""
    for start in range(0, len(texts), batch_size):
        ids = [tokenizer.encode(said, text.max_length) for said in texts[start : start + batch_size]]
        yield collate_texts(ids, text.pad_id, text.max_length)


def iterate_vqa(
    dataset: ShardDataset,
    examples: Sequence[VQAExample],
    answers: Sequence[str],
    tokenizer: Tokenizer,
    vision: VisionConfig,
    text: TextConfig,
    batch_size: int,
    *,
    transform: Transform | None = None,
    workers: int = 0,
) -> Iterator[VQABatch]:
    """All questions. Answers outside the list have no target. The rest as for `iterate_pairs`."""
    transform = transform or EvalTransform(vision.image_size)
    pictures = Pictures(dataset, transform, grid=vision.grid, stream="vqa", seed=0)
    questions = Questions(dataset, examples, answers, pictures, tokenizer, text)
    yield from _batches(questions, in_order(len(questions), batch_size), workers)


def iterate_nlvr2(
    statements: Statements,
    tokenizer: Tokenizer,
    vision: VisionConfig,
    text: TextConfig,
    batch_size: int,
    *,
    transform: Transform | None = None,
    workers: int = 0,
) -> Iterator[NLVR2Batch]:
    """All statements. The rest as for `iterate_pairs`."""
    batches = StatementBatches(statements, transform or EvalTransform(vision.image_size), tokenizer, text)
    yield from _batches(batches, in_order(len(batches), batch_size), workers)


def _batches(stream: Callable[[Picks, Empty], Any], picks: Sequence[Picks], workers: int) -> Iterator[Any]:
    def batch(step: int, empty: Empty) -> Any:
        return stream(picks[step], empty)

    yield from step_loader(batch, StepSampler(0, len(picks)), workers=workers)
