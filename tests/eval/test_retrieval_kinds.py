"""Sets with several captions, re-ranking, and languages, on real shards. Truth: the numbers put together by hand."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import captions_of
from mm_mhmoe_data.shards import Sample
from mm_mhmoe_data.shards.writer import write_shards
from mm_mhmoe_eval.kinds import KINDS, ScoredData, multilingual, retrieval
from mm_mhmoe_eval.retrieval import retrieval_ranks
from mm_mhmoe_eval.runner import ModelFacts, evaluate
from mm_mhmoe_eval.tasks import Task
from PIL import Image

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig, VisionConfig

SEVERAL = Path(__file__).parents[1] / "data" / "files" / "clip_benchmark" / "retrieval"


class Words:
    """A token a letter."""

    def encode(self, text: str, max_length: int) -> list[int]:
        return [0, *(5 + ord(letter) % 50 for letter in text[: max_length - 2]), 2]


class Model:
    """Embeddings and scores that depend on every pixel and letter, and on nothing else."""

    vision = VisionConfig(image_size=16, patch_size=8)
    text = TextConfig(vocab_size=64, max_length=24)

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randn(3 * 16 * 16, 5, generator=generator)
        self.letters = torch.randn(64, 5, generator=generator)
        self.read: list[int] = []

    def embed_images(self, images: Images) -> torch.Tensor:
        return F.normalize(images.pixels_BCHW.flatten(1).float() @ self.pixels, dim=1)

    def embed_texts(self, texts: Texts) -> torch.Tensor:
        kept = self.letters[texts.ids_BL] * texts.valid_BL[:, :, None]
        return F.normalize((kept * torch.arange(1, kept.shape[1] + 1)[:, None]).sum(1), dim=1)

    def rescore(self, pairs: ImageTextBatch, cosine_B: torch.Tensor) -> torch.Tensor:
        assert pairs.images is not None and pairs.texts is not None
        self.read.append(len(pairs))
        image_BE, text_BE = self.embed_images(pairs.images), self.embed_texts(pairs.texts)
        torch.testing.assert_close((image_BE * text_BE).sum(1), cosine_B)
        return torch.sin(100 * cosine_B + 7 * image_BE[:, 0])


def given(path: Path, **options: object) -> ScoredData:
    rest = {"batch_size": 2, "limit": None, "device": "cpu", "options": {"rerank": 0}}
    return ScoredData(paths={"test": path}, tokenizer=Words(), **{**rest, **options})  # type: ignore[arg-type]


def by_hand(path: Path = SEVERAL / "test") -> tuple[list[list[str]], torch.Tensor, torch.Tensor, list[int]]:
    dataset, model = ShardDataset(path), Model()
    captions = [dataset.caption(row).split("\n") for row in range(len(dataset))]
    owner = [row for row, lines in enumerate(captions) for _ in lines]
    (batch,) = iterate_pairs(dataset, Words(), model.vision, model.text, 100, stream="images")  # type: ignore[arg-type]
    texts = [Words().encode(line, 24) for lines in captions for line in lines]
    text_NE = torch.cat(
        [model.embed_texts(Texts(ids_BL=t, valid_BL=t >= 0)) for t in map(torch.tensor, ([i] for i in texts))]
    )
    return captions, model.embed_images(batch.images), text_NE, owner


def test_every_caption_is_a_query_and_any_is_a_hit() -> None:
    captions, image_ME, text_NE, owner = by_hand()
    assert {len(lines) for lines in captions} == {1, 2}
    scored = retrieval.score(Model(), given(SEVERAL / "test"))
    ranks = retrieval_ranks(image_ME, text_NE, torch.tensor(owner))
    assert [sample["image_rank"] for sample in scored.samples] == ranks.image_N.tolist()
    assert [sample["text_rank"] for sample in scored.samples] == ranks.text_M[owner].tolist()
    assert [sample["caption"] for sample in scored.samples] == [line for lines in captions for line in lines]
    assert scored.metrics["image_retrieval_queries"] == len(owner) > scored.metrics["text_retrieval_queries"] == 5
    assert len(scored.per_sample["image_retrieval_recall@10"]) == len(owner)
    limited = retrieval.score(Model(), given(SEVERAL / "test", limit=2))
    assert limited.metrics["image_retrieval_candidates"] == 2 and len(limited.samples) == 3


@pytest.fixture
def untied(tmp_path: Path) -> Path:
    """Noise, no two captions alike: which of equal candidates are the best would be the library's choice."""
    generator = torch.Generator().manual_seed(2)

    def sample(row: int) -> Sample:
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=generator).numpy()
        Image.fromarray(pixels).save(content := io.BytesIO(), "PNG")
        captions = f"number {row}" + f"\nand {row} once more" * (row % 2)
        return Sample(key=f"{row:09d}", parts={"png": content.getvalue(), "txt": captions.encode()})

    (tmp_path / "dataset_type.txt").write_text("retrieval")
    write_shards(map(sample, range(8)), tmp_path / "test", 0, 10)
    return tmp_path / "test"


def test_reranking_pair_by_pair(untied: Path) -> None:
    """Every pair of a query and its two best candidates, scored alone."""
    _, image_ME, text_NE, owner = by_hand(untied)
    model = Model()
    scored = retrieval.score(model, given(untied, options={"rerank": 2}))
    cosine_NM = text_NE @ image_ME.T
    new_NM = torch.sin(100 * cosine_NM + 7 * image_ME[None, :, 0])
    hits, pairs = [], set()
    for n, m in enumerate(owner):
        best = cosine_NM[n].topk(2).indices.tolist()
        hits.append(float(m in best and m == max(best, key=lambda i: new_NM[n, i])))
        pairs |= {(i, n) for i in best}
    assert scored.metrics["reranked_image_retrieval_recall@1"] == pytest.approx(sum(hits) / len(hits))
    found = []
    for m in range(len(image_ME)):
        best = cosine_NM[:, m].topk(2).indices.tolist()
        found.append(float(owner[max(best, key=lambda n: new_NM[n, m])] == m))
        pairs |= {(m, n) for n in best}
    assert scored.metrics["reranked_text_retrieval_recall@1"] == pytest.approx(sum(found) / len(found))
    assert sum(model.read) == len(pairs) and max(model.read) <= 2
    changed = [name for name in scored.metrics if name.startswith("reranked_")]
    assert any(scored.metrics[name] != scored.metrics[name.removeprefix("reranked_")] for name in changed)
    with pytest.raises(ValueError, match="0 or more"):
        retrieval.score(model, given(untied, options={"rerank": -1}))


def test_a_task_says_how_many_are_reranked() -> None:
    values = {
        "name": "r",
        "version": 1,
        "kind": "retrieval",
        "description": "",
        "data": {"test": "test"},
        "metrics": (),
    }
    task = Task(**values, options={"rerank": 3})
    evaluation = evaluate(Model(), task, tokenizer=Words(), facts=ModelFacts(name="m"), data_dir=SEVERAL)
    assert "reranked_text_retrieval_recall@5" in evaluation.record.metrics
    assert evaluation.record.config["options"] == {"rerank": 3}
    assert KINDS["retrieval"].options == {"rerank": 0}
    for options, message in (({"rerank": "3"}, "of type int"), ({"k": 3}, "must map some of rerank")):
        with pytest.raises(ValueError, match=message):
            Task(**values, options=options)


def test_lines_are_captions_where_the_set_says_so(tmp_path: Path) -> None:
    several = ShardDataset(SEVERAL / "test")
    assert captions_of(several, 1, "auto") == several.caption(1).split("\n") == captions_of(several, 1, "lines")
    assert captions_of(several, 1, "whole") == [several.caption(1)]


@pytest.fixture
def polyglot(tmp_path: Path) -> Path:
    """24 pictures; all have English captions, 20 French ones, 5 Dutch ones."""
    generator = torch.Generator().manual_seed(1)

    def sample(row: int) -> Sample:
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=generator).numpy()
        Image.fromarray(pixels).save(content := io.BytesIO(), "PNG")
        captions = {"en": f"number {row}"} | ({"fr": f"nombre {row}"} if row >= 4 else {})
        captions |= {"nl": f"getal {row}", "de": " "} if row < 5 else {}
        return Sample(
            key=f"{row:09d}",
            parts={"png": content.getvalue(), "txt": b"-", "json": json.dumps({"captions": captions}).encode()},
        )

    write_shards(map(sample, range(24)), tmp_path / "test", 0, 10)
    return tmp_path / "test"


def test_languages_one_by_one(polyglot: Path) -> None:
    dataset, model = ShardDataset(polyglot), Model()
    scored = multilingual.score(model, given(polyglot))
    (batch,) = iterate_pairs(dataset, Words(), model.vision, model.text, 100, stream="images")  # type: ignore[arg-type]
    image_ME = model.embed_images(batch.images)
    recalls = {}
    for language, word, rows in (("en", "number", range(24)), ("fr", "nombre", range(4, 24))):
        ids = [torch.tensor([Words().encode(f"{word} {row}", 24)]) for row in rows]
        text_NE = torch.cat([model.embed_texts(Texts(ids_BL=i, valid_BL=i >= 0)) for i in ids])
        ranks = retrieval_ranks(image_ME, text_NE, torch.tensor(rows))
        recalls[language] = (ranks.image_N <= 5).double().mean().item()
        assert scored.metrics[f"image_retrieval_recall@5/{language}"] == pytest.approx(recalls[language])
        assert scored.metrics[f"image_retrieval_candidates/{language}"] == 24
        assert scored.metrics[f"text_retrieval_candidates/{language}"] == len(rows)
        assert scored.metrics[f"text_retrieval_chance@5/{language}"] == pytest.approx(5 / len(rows))
    assert scored.metrics["image_retrieval_recall@5"] == pytest.approx(sum(recalls.values()) / 2)
    assert scored.metrics["languages"] == 2 and not any("nl" in name.split("/") for name in scored.metrics)
    assert [sample["language"] for sample in scored.samples] == ["en"] * 24 + ["fr"] * 20
    with pytest.raises(ValueError, match="20 pictures or more"):
        multilingual.score(model, given(polyglot, limit=10))


def test_shards_without_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="no captions by language"):
        multilingual.score(Model(), given(SEVERAL / "test"))
