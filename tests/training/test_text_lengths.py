"""Truth: batches worked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, NLVR2Batch, PretrainBatch, Texts
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.run_warnings import WARNINGS, RunWarnings
from mm_mhmoe.training.text_lengths import TextLengths, cut_advice, padded_share

LENGTH = 16


def texts(*lengths: int, wide: int) -> Texts:
    valid_BL = torch.arange(wide) < torch.tensor(lengths).unsqueeze(1)
    return Texts(ids_BL=valid_BL.long(), valid_BL=valid_BL)


def test_padded_share_worked_by_hand() -> None:
    assert padded_share([texts(3, 4, wide=8).valid_BL]) == 9 / 16
    assert padded_share([texts(3, 4, wide=8).valid_BL, texts(4, wide=4).valid_BL]) == 9 / 20


def test_only_full_texts_are_spoken_of() -> None:
    assert cut_advice(0, 0, 24) == cut_advice(0, 9, 24) == ""
    told = cut_advice(3, 8, 24)
    assert "37.5% of the texts" in told and "text.max_length=24" in told and "data stats --tokenizer" in told


@pytest.fixture
def watch(config, tmp_path: Path) -> Callable[..., list[tuple[int, str]]]:
    """What is said of these batches of a run, with its steps."""
    model = RetrievalModel(config(text=TextConfig(vocab_size=40, max_length=LENGTH)), 4)
    module = SimpleNamespace(model=model, log=lambda name, value: None)

    def run(*batches: object, enough: int = 1000) -> list[tuple[int, str]]:
        callback = TextLengths(RunWarnings(tmp_path / WARNINGS), enough=enough)
        for step, batch in enumerate(batches, start=1):
            trainer = SimpleNamespace(global_step=step, max_steps=len(batches))
            callback.on_train_batch_end(trainer, module, None, batch, step)  # type: ignore[arg-type]
        return said(tmp_path / WARNINGS)

    return run


def said(path: Path) -> list[tuple[int, str]]:
    lines = map(json.loads, path.read_text().splitlines() if path.exists() else [])
    return [(line["step"], line["message"]) for line in lines if line["kind"] == "cut_texts"]


def test_the_share_is_that_of_all_streams(watch) -> None:
    batch = PretrainBatch(
        texts=ImageTextBatch(texts=texts(LENGTH, 3, 2, wide=LENGTH)), pairs=ImageTextBatch(texts=texts(3, wide=8))
    )
    ((step, message),) = watch(batch, batch)
    assert step == 2 and "25.0% of the texts" in message  # at the end of a run of two steps: 2 of 8


def test_it_is_said_once_and_as_soon_as_enough_was_seen(watch) -> None:
    batch = ImageTextBatch(texts=texts(LENGTH, 3, wide=LENGTH))
    ((step, message),) = watch(*[batch] * 6, enough=4)
    assert step == 2 and "50.0%" in message


def test_short_texts_pictures_and_packed_sequences_are_passed_over(watch) -> None:
    pictures = ImageTextBatch(images=Images(pixels_BCHW=torch.zeros(1, 3, 8, 8)))
    short = ImageTextBatch(texts=texts(8, 8, wide=8))  # as wide as the longest of them
    pair = ImageTextBatch(texts=texts(3, wide=LENGTH))
    sentences = NLVR2Batch(left=pair, right=pair, labels_B=torch.zeros(1))
    packed = ImageTextBatch(texts=texts(LENGTH, wide=LENGTH), causal_text=True)
    assert watch(pictures, short, sentences, packed, enough=4) == []


def test_a_run_says_so(train, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, steps=2)  # of four texts in a batch, the first has all 8 tokens
    ((step, message),) = said(tmp_path / "logs" / WARNINGS)
    assert step == 2 and message.startswith("25.0% of the texts seen fill text.max_length=8")
    assert message in capsys.readouterr().out
    shares = [share for _, share in read_metrics(tmp_path)["train/padded_share"]]
    assert shares == pytest.approx([(1 + 2 + 3) / (4 * 8)] * 2)
