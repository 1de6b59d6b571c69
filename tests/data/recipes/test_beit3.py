"""BEiT-3's index files, written here with the fields of its make_dataset_index functions; the texts are made up.

Token ids come from a small SentencePiece model by the rule of XLMRobertaTokenizer. Answers are held against the
official VQAv2 score.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from mm_mhmoe_data.recipes.beit3 import plan_beit3
from mm_mhmoe_data.recipes.beit3_text import SegmentText
from mm_mhmoe_data.recipes.research_options import BuildOptions
from mm_mhmoe_data.vqa_data import read_questions, read_vqa, soft_targets
from mm_mhmoe_eval.vqa import vqa_accuracy

TEXTS = ["A red owl sits.", "two owls", "Is it red?", "What is this, then?", "There are two dogs."]


@pytest.fixture(scope="module")
def spm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of beit3.spm's layout: unknown 0, begin 1, end 2."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    path = tmp_path_factory.mktemp("spm") / "beit3.spm"
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture
def ids(spm: Path):
    """ids(text): as transformers' XLMRobertaTokenizer gives them, whose ids are one above SentencePiece's."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(spm))
    return lambda text: [3 if i == 0 else i + 1 for i in pieces.encode(text)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_become_the_text_that_they_came_from(spm: Path, ids, text: str) -> None:
    assert SegmentText(spm)(ids(text)) == text


def test_other_segments(spm: Path, ids) -> None:
    texts = SegmentText(spm)
    assert texts(None) == "" and texts("as it is") == "as it is"
    assert "⁇" in texts(ids("two 馬"))


@pytest.mark.parametrize("bad", [0, 1, 2, 10_000])
def test_ids_of_another_model_are_refused(spm: Path, bad: int) -> None:
    with pytest.raises(ValueError, match=f"the id {bad}.*has pieces from 3 to"):
        SegmentText(spm)([4, bad])


def test_a_model_of_another_layout_is_refused(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=model, vocab_size=60, hard_vocab_limit=False, minloglevel=2,
        bos_id=0, unk_id=3, eos_id=2,
    )  # fmt: skip
    (tmp_path / "ours.model").write_bytes(model.getvalue())
    with pytest.raises(ValueError, match=r"at \(3, 0, 2\), but BEiT-3's model at \(0, 1, 2\)"):
        SegmentText(tmp_path / "ours.model")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, put) -> None:
    with pytest.raises(ValueError, match="is not a SentencePiece model"):
        SegmentText(put(tmp_path / "beit3.spm", "text"))


@pytest.fixture
def retrieval(tmp_path: Path, put, photo, ids) -> Path:
    root = tmp_path / "coco"
    name = "val2014/COCO_val2014_000000000042.jpg"
    put(root / name, photo(0))
    put(root / "train2014/COCO_train2014_000000000009.jpg", photo(1))
    rows = [{"image_path": name, "text_segment": ids(text), "image_id": 0} for text in TEXTS[:2]]
    put(root / "coco_retrieval.val.jsonl", lines(rows))
    first = {"image_path": "train2014/COCO_train2014_000000000009.jpg", "text_segment": ids(TEXTS[0]), "image_id": 0}
    put(root / "coco_retrieval.train.jsonl", lines([first]))
    return root


def test_captions_of_one_picture_come_together(retrieval: Path, spm: Path, ids, build, facts, photo) -> None:
    built = build(plan_beit3(retrieval, "coco_retrieval", BuildOptions(), tokenizer=spm))
    (sample,) = built.by_key("val").values()
    assert sample.key == "000000042" and sample.parts["jpg"] == photo(0)
    assert sample.parts["txt"].decode().split("\n") == TEXTS[:2]
    assert facts(sample)["token_ids"] == [ids(text) for text in TEXTS[:2]]
    assert built.manifest["counts"] == {"train lines": 1, "val lines": 2}
    assert (built.out / "val" / "nshards.txt").read_text() == "1\n"


def test_ids_without_a_tokenizer_are_refused(retrieval: Path) -> None:
    with pytest.raises(ValueError, match=r"coco_retrieval\.train\.jsonl: .*--tokenizer beit3\.spm"):
        plan_beit3(retrieval, "coco_retrieval", BuildOptions())


def test_captioning_and_nocaps_may_have_no_text(tmp_path: Path, put, photo, ids, spm: Path, build, facts) -> None:
    for folder in ("val", "val2014"):
        put(tmp_path / folder / "09c863d76bcf6b00.jpg", photo(3))
    row = {"image_path": "val/09c863d76bcf6b00.jpg", "text_segment": None, "image_id": 7}
    put(tmp_path / "nocaps.val.jsonl", lines([row]))
    built = build(plan_beit3(tmp_path, "nocaps", BuildOptions()))
    (sample,) = built.by_key("val").values()
    assert sample.key == "09c863d76bcf6b00" and sample.parts["txt"] == b"" and facts(sample)["image_id"] == 7


def test_pairs_of_nlvr2(tmp_path: Path, put, photo, ids, spm: Path, build, facts) -> None:
    paths = [f"dev/dev-269-0-img{side}.png" for side in (0, 1)]
    for number, path in enumerate(paths):
        put(tmp_path / path, photo(number, "PNG"))
    row = {"image_path": paths[0], "image2_path": paths[1], "text_segment": ids(TEXTS[4])}
    rows = [row | {"label": label, "identifier": f"dev-269-0-{label}"} for label in (1, 0)]
    put(tmp_path / "nlvr2.dev.index.jsonl", lines(rows))
    built = build(plan_beit3(tmp_path, "nlvr2", BuildOptions(), tokenizer=spm))
    found = built.by_key("dev")
    first = found["dev-269-0-1"]
    assert (first.parts["left.png"], first.parts["right.png"]) == (photo(0, "PNG"), photo(1, "PNG"))
    assert first.parts["txt"].decode() == TEXTS[4] and facts(first)["identifier"] == "dev-269-0-1"
    assert [sample.parts["cls"] for sample in found.values()] == [b"1", b"0"]


def test_classes_of_imagenet(tmp_path: Path, put, photo, build) -> None:
    put(tmp_path / "train/n01443537/n01443537_2.JPEG", photo(1))
    put(
        tmp_path / "imagenet.train.index.jsonl", lines([{"image_path": "train/n01443537/n01443537_2.JPEG", "label": 1}])
    )
    built = build(plan_beit3(tmp_path, "imagenet", BuildOptions()))
    assert built.by_key("train")["n01443537_2"].parts["cls"] == b"1"
    assert (built.out / "dataset_type.txt").read_text() == "classification\n"


ANSWERS = ["yes", "no", "red", "two", ""]
LABELS = {
    "yes": [[0, 1], [1.0, 0.3]],
    "mixed": [[0, 1, 2], [0.6, 0.9, 0.9]],
    "few": [[3], [0.3]],
    "empty": [[4], [0.6]],
}
"""Made-up questions: their labels and scores."""


@pytest.fixture
def vqa(tmp_path: Path, put, photo, ids) -> Path:
    root = tmp_path / "vqa"
    put(root / "answer2label.txt", lines([{"answer": a, "label": i} for i, a in enumerate(ANSWERS)]))
    names = {"train": "train2014", "trainable_val": "val2014", "rest_val": "val2014"}
    for number, (split, folder) in enumerate(names.items()):
        image = 9 + number
        path = f"{folder}/COCO_{folder}_{image:012d}.jpg"
        put(root / path, photo(number))
        rows = [
            {
                "image_path": path,
                "text_segment": ids(TEXTS[2]),
                "labels": labels,
                "scores": scores,
                "qid": 1000 * image + n,
            }
            for n, (labels, scores) in enumerate(LABELS.values())
        ]
        put(root / f"vqa.{split}.jsonl", lines(rows))
    tests = []
    for image in (1, 16):
        path = f"test2015/COCO_test2015_{image:012d}.jpg"
        put(root / path, photo(image))
        tests.append(
            {"image_path": path, "text_segment": ids(TEXTS[3]), "labels": [], "scores": [], "qid": 1000 * image}
        )
    put(root / "vqa.test.jsonl", lines(tests))
    put(root / "vqa.test-dev.jsonl", lines(tests[1:]))
    return root


def test_questions_become_files_of_vqav2(vqa: Path, spm: Path, build, facts) -> None:
    built = build(plan_beit3(vqa, "vqav2", BuildOptions(), tokenizer=spm))
    examples = read_vqa(built.out / "vqa" / "train_questions.json", built.out / "vqa" / "train_annotations.json")
    assert [example.question for example in examples] == [TEXTS[2]] * 4
    assert {example.image_key for example in examples} == set(built.by_key("train"))
    assert facts(built.by_key("train")["000000009"])["question_ids"] == [9000, 9001, 9002, 9003]
    index_of = {answer: label for label, answer in enumerate(ANSWERS)}
    for example, (labels, scores) in zip(examples, LABELS.values(), strict=True):
        wanted = dict(zip(labels, scores, strict=True))
        assert soft_targets(example.answers, index_of).tolist() == pytest.approx([wanted.get(i, 0) for i in range(5)])
        # The official score of each answer among these ten is BEiT-3's score, too.
        assert len(example.answers) == 10
        for label, answer in enumerate(ANSWERS):
            assert vqa_accuracy(answer, example.answers) == pytest.approx(wanted.get(label, 0))
    assert [example.top_answer for example in examples] == ["yes", "no", "two", ""]


def test_splits_of_the_questions(vqa: Path, spm: Path, build) -> None:
    built = build(plan_beit3(vqa, "vqav2", BuildOptions(), tokenizer=spm))
    assert set(built.manifest["splits"]) == {"train", "trainable_val", "rest_val", "test"}
    assert list(built.by_key("test")) == ["000000001", "000000016"]
    assert read_questions(built.out / "vqa" / "test-dev_questions.json") == [TEXTS[3]]
    assert len(read_questions(built.out / "vqa" / "fit_questions.json")) == 8
    assert (built.out / "answer2label.txt").read_bytes() == (vqa / "answer2label.txt").read_bytes()


def test_some_of_the_splits_are_enough(vqa: Path, spm: Path, build) -> None:
    for name in ("train", "test", "test-dev"):
        (vqa / f"vqa.{name}.jsonl").unlink()
    built = build(plan_beit3(vqa, "vqav2", BuildOptions(), tokenizer=spm))
    assert set(built.manifest["splits"]) == {"trainable_val", "rest_val"}
    assert not (built.out / "vqa" / "fit_questions.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [5], "scores": [1.0]}, "label 5, but answer2label.txt 5 answers"),
        ({"labels": [1], "scores": [0.5]}, "score 0.5"),
        ({"labels": [0, 1, 2], "scores": [1.0, 1.0, 1.0]}, "more than 10 people"),
        ({"labels": [0, 1], "scores": [1.0]}, "as many labels as scores"),
        ({"labels": ["yes"], "scores": [1.0]}, r"vqa\.train\.jsonl is not .* see line 1"),
        ({"image_path": "photos/9.jpg"}, "photos/9.jpg is not named like a picture of COCO"),
    ],
)
def test_lines_that_make_no_question_are_named(vqa: Path, put, spm: Path, change: dict[str, Any], message: str) -> None:
    row = json.loads((vqa / "vqa.train.jsonl").read_text().splitlines()[0])
    put(vqa / "vqa.train.jsonl", lines([row | change]))
    with pytest.raises(ValueError, match=message):
        plan_beit3(vqa, "vqav2", BuildOptions(), tokenizer=spm)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text_segment": [4], "image_id": 0}, "see line 1.*image_path"),
        ({"image_path": "x.jpg", "image_id": 0}, "see line 1.*text_segment"),
        ({"image_path": "x.jpg", "text_segment": [4]}, "see line 1.*image_id"),
        ({"image_path": "x.jpg", "text_segment": None, "image_id": 0}, "text_segment is null"),
        ({"image_path": "x.jpg", "text_segment": [4, "a"], "image_id": 0}, "holds no token ids"),
        ({"image_path": "x.jpg", "text_segment": [], "image_id": 0}, "holds no token ids"),
    ],
)
def test_another_file_is_one_clear_error(tmp_path: Path, put, row: dict[str, Any], message: str) -> None:
    put(tmp_path / "flickr30k.test.jsonl", lines([row]))
    with pytest.raises(ValueError, match=message):
        plan_beit3(tmp_path, "flickr30k", BuildOptions())


def test_a_root_without_index_files_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"looked for imagenet\.train\.index\.jsonl"):
        plan_beit3(tmp_path, "imagenet", BuildOptions())
