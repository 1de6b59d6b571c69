"""Answers by likelihood, and questions without public answers, on the demo's clip-art.

Truth for likelihoods: the encoder, run once for every token of every answer by hand.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from mm_mhmoe_data.vqa_data import read_vqa
from mm_mhmoe_eval.kinds import ScoredData, open_vqa, vqa
from mm_mhmoe_eval.kinds.open_vqa import continuations
from mm_mhmoe_eval.runner import ModelFacts, evaluate
from mm_mhmoe_eval.tasks import load_task

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.models.likelihood import continuation_log_likelihood
from mm_mhmoe.models.tasks import PretrainModel, VQAModel

TEXT = TextConfig(vocab_size=60, max_length=12)
ANSWERS = ["a", "fish", "red", "blue bird"]
PATHS = {
    "test": data_path("demo:test"),
    "test_questions": data_path("demo:vqa/test_questions.json"),
    "train_questions": data_path("demo:vqa/train_questions.json"),
    "train_annotations": data_path("demo:vqa/train_annotations.json"),
}


class Letters:
    """A token a letter."""

    def encode(self, text: str, max_length: int) -> list[int]:
        return [0, *(5 + ord(letter) % 50 for letter in text[: max_length - 2]), 2]


@pytest.fixture
def model(config) -> PretrainModel:
    torch.manual_seed(0)
    return PretrainModel(config(vision=VisionConfig(image_size=32, patch_size=8), text=TEXT), 8).eval()


def given(options: dict[str, object], **paths: str) -> ScoredData:
    return ScoredData(
        paths=PATHS | paths,
        tokenizer=Letters(),
        batch_size=3,
        limit=4,
        device="cpu",
        options=open_vqa.OPTIONS | options,
    )


def test_texts_of_a_question_and_its_answers() -> None:
    ((texts, start_B),) = continuations("is it?", ["no", "abcdefghijklmn"], Letters(), TEXT, 8)
    question = Letters().encode("is it?", 99)[1:-1]
    assert texts.ids_BL[0, texts.valid_BL[0]].tolist() == [0, *question, *Letters().encode("no", 99)[1:-1], 2]
    assert start_B.tolist() == [7, 1]  # no room for the question beside an answer that fills the text
    assert texts.ids_BL[1].tolist() == [0, *Letters().encode("abcdefghij", 99)[1:-1], 2]


@pytest.mark.parametrize("reading", ["masked", "causal"])
def test_likelihoods_token_by_token(model: PretrainModel, reading) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=generator)
    ((texts, start_B),) = continuations("what?", ANSWERS, Letters(), TEXT, 8)
    pairs = ImageTextBatch(images=Images(pixels_BCHW=pixels.expand(len(texts), -1, -1, -1)), texts=texts)
    found = model.continuation_log_likelihood(pairs, start_B, reading)
    assert found.shape == (4,) and (found < 0).all()
    for row, start in enumerate(start_B.tolist()):
        ids = texts.ids_BL[row, texts.valid_BL[row]][None]
        total = 0.0
        for place in range(start, ids.shape[1] - (reading == "masked")):
            shown = ids if reading == "masked" else ids[:, :place]
            hidden = torch.arange(shown.shape[1])[None] == place
            text = Texts(ids_BL=shown, valid_BL=torch.ones_like(shown, dtype=torch.bool), masked_BL=hidden)
            one = ImageTextBatch(images=Images(pixels_BCHW=pixels), texts=text, causal_text=reading == "causal")
            with torch.no_grad():
                states = model.encoder(one).streams[0].text_BLD
                logits = model.text_head(states[0, place if reading == "masked" else -1])
            total += logits.log_softmax(0)[ids[0, place]].item()
        assert found[row].item() == pytest.approx(total, abs=1e-4)
    without = continuation_log_likelihood(model.encoder, model.text_head, replace(pairs, images=None), start_B, reading)
    assert not torch.allclose(found, without)  # the picture counts


def test_the_likeliest_candidate_is_the_answer(model: PretrainModel, tmp_path) -> None:
    (tmp_path / "answers.txt").write_text(
        "".join(json.dumps({"answer": answer, "label": n}) + "\n" for n, answer in enumerate(ANSWERS))
    )
    annotations = data_path("demo:vqa/test_annotations.json")
    given_here = given({}, test_annotations=annotations, answers=str(tmp_path / "answers.txt"))
    scored = open_vqa.score(model, given_here)
    examples = read_vqa(PATHS["test_questions"], annotations)[:4]
    assert [sample["question_id"] for sample in scored.samples] == [example.question_id for example in examples]
    assert all(set(sample["top"]) < set(ANSWERS) and len(sample["top"]) == 3 for sample in scored.samples)
    assert "vqa" in scored.metrics and "question_only/vqa" in scored.metrics
    # From the training questions, only frequent answers are candidates.
    assert 5 < len(open_vqa.candidates(given({}))) < len(open_vqa.candidates(given({"min_answer_count": 1})))
    with pytest.raises(ValueError, match="not one of masked, causal"):
        open_vqa.score(model, given({"reading": "backwards"}))
    with pytest.raises(ValueError, match="needs a pretrained model"):
        open_vqa.score(VQAModel(model.config, ["yes"]), given({}))


def test_questions_without_public_answers(model: PretrainModel) -> None:
    """As VQAv2's test-dev: a file for the server, and no score."""
    torch.manual_seed(0)
    scored = vqa.score(VQAModel(model.config, ANSWERS).eval(), given({}))
    examples = read_vqa(PATHS["test_questions"], None)[:4]
    official = json.loads(scored.files["results.json"])
    assert [set(row) for row in official] == [{"question_id", "answer"}] * 4
    assert {row["question_id"] for row in official} == {example.question_id for example in examples}
    assert all(row["answer"] in ANSWERS and type(row["question_id"]) is int for row in official)
    assert scored.metrics == {"vqa_questions": 4.0} and not scored.per_sample


def test_the_task_of_the_server(model: PretrainModel, tmp_path) -> None:
    task = load_task("vqav2_test_dev")
    paths = {name: PATHS[name] for name in ("test", "test_questions")}
    answering = VQAModel(model.config, ANSWERS)
    record = evaluate(answering, task, tokenizer=Letters(), facts=ModelFacts(name="m"), data=paths, limit=3).record
    assert record.samples == 3 and set(record.checksums) > {"test_questions/test_questions.json"}


class Prejudiced:
    """Likes short answers in every case, and "red" a little more when there is a picture."""

    vision = VisionConfig(image_size=32, patch_size=8)
    text = TextConfig(vocab_size=60, max_length=40)

    def __init__(self) -> None:
        self.without_picture = 0

    def continuation_log_likelihood(self, pairs: ImageTextBatch, start_B: torch.Tensor, reading: str) -> torch.Tensor:
        assert pairs.texts is not None
        length_B = pairs.texts.valid_BL.sum(1) - 1 - start_B
        red, rows = Letters().encode("red", 9)[1:-1], zip(pairs.texts.ids_BL.tolist(), start_B.tolist(), strict=True)
        is_red_B = torch.tensor([ids[start : start + 3] == red for ids, start in rows])
        self.without_picture += pairs.images is None
        return -10.0 * length_B + 3.0 * is_red_B * (pairs.images is not None)


def test_calibration_takes_away_what_the_question_alone_gives(tmp_path) -> None:
    (tmp_path / "answers.txt").write_text(
        "".join(json.dumps({"answer": answer, "label": n}) + "\n" for n, answer in enumerate(ANSWERS))
    )
    for calibrated, best in ((False, "a"), (True, "red")):
        model = Prejudiced()
        scored = open_vqa.score(model, given({"calibrated": calibrated}, answers=str(tmp_path / "answers.txt")))
        assert {sample["answer"] for sample in scored.samples} == {best}
        questions = {sample["question"] for sample in scored.samples}
        assert model.without_picture == (2 * len(questions) if calibrated else 0)  # once a question, in two batches
