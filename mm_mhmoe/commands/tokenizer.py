from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from rich.console import Console

from mm_mhmoe.commands.sources import data_path


def train(out: Path, shards: str = "demo:train", vocab_size: int = 2048, questions: str | None = None) -> None:
    """Trains a SentencePiece unigram tokenizer on captions.

    Args:
        out: directory to write tokenizer.model into.
        shards: captions to learn from: a folder, glob, list or address of .tar files, or demo:train.
        vocab_size: pieces at most; small texts give fewer.
        questions: a VQAv2 questions file, or demo:..., whose questions are learnt from as well.
    """
    from mm_mhmoe_data.vqa_data import read_questions

    dataset = ShardDataset(data_path(shards))
    texts = [dataset.caption(i) for i in range(len(dataset))]
    if questions is not None:
        texts += read_questions(data_path(questions))
    model = train_tokenizer(texts, Path(out), vocab_size=vocab_size)
    Console().print(
        f"tokenizer: {len(Tokenizer.load(model))} pieces from {len(texts):,} texts -> {model}", highlight=False
    )
