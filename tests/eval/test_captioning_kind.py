"""Truth: `score_captions` on what the model is known to say; the demo's captions. Models are made up, pictures real."""

import json
from types import SimpleNamespace

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_eval.captions import official, score_captions
from mm_mhmoe_eval.kinds import ScoredData
from mm_mhmoe_eval.kinds.captioning import score

from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.config import TextConfig, VisionConfig

TEST = ShardDataset(str(data_path("demo:test")))
SAID = [TEST.caption(index) for index in range(12)]


class Letters:
    """A tokenizer whose ids are letters."""

    def decode(self, ids):
        return "".join(map(chr, ids))


class Parrot:
    """Says these captions one after the other, whatever the picture."""

    vision = VisionConfig(image_size=16, patch_size=8)
    text = TextConfig(vocab_size=300, max_length=40)

    def __init__(self, captions):
        self.captions, self.rows = list(captions), []

    def write_captions(self, images):
        self.rows.append(len(images))
        said, self.captions = self.captions[: len(images)], self.captions[len(images) :]
        return [list(map(ord, caption)) for caption in said]


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    monkeypatch.setattr(official, "missing", lambda: "Java")


def data(**changes):
    paths = {"test": data_path("demo:test")}
    values = {"paths": paths, "tokenizer": Letters(), "batch_size": 5, "limit": len(SAID), "device": "cpu"}
    return ScoredData(**{**values, **changes})


def test_scores_are_those_of_the_captions_in_their_order():
    wrong = [*SAID[:6], *reversed(SAID[6:])]
    model = Parrot(wrong)
    scored = score(model, data())
    wanted = score_captions(wrong, [[caption] for caption in SAID])
    assert model.rows == [5, 5, 2]
    assert {name: scored.metrics[name] for name in wanted.metrics} == wanted.metrics
    assert scored.per_sample == wanted.per_sample and scored.intervals == wanted.intervals
    assert scored.metrics["distinct_captions"] == 1 and 2 < scored.metrics["mean_words"] < 5
    assert [sample["caption"] for sample in scored.samples] == wrong
    assert [sample["references"] for sample in scored.samples] == [[caption] for caption in SAID]
    assert json.loads(scored.files["results.json"])[0] == {"image_id": 80000, "caption": SAID[0]}
    assert not any(name.startswith("blind/") for name in scored.metrics)


def test_one_caption_for_all_stands_beside_the_scores():
    scored = score(Parrot(SAID), data(paths={"test": data_path("demo:test"), "train": data_path("demo:val")}))
    assert 0 < scored.metrics["blind/cider_python"] < scored.metrics["cider_python"]
    assert len(scored.per_sample["blind/cider_python"]) == len(SAID)


@pytest.fixture
def shards(tmp_path):
    """Pictures with several captions, or none, and what is known of them: folder of the set."""

    def make(captions, facts):
        samples = [
            Sample(
                key=f"picture_{n}",
                parts={"webp": TEST.image_bytes(n), "txt": "\n".join(own).encode(), "json": json.dumps(known).encode()},
            )
            for n, (own, known) in enumerate(zip(captions, facts, strict=True))
        ]
        write_shards(samples, tmp_path / "set" / "val", first_shard=0, samples_per_shard=100)
        (tmp_path / "set" / "dataset_type.txt").write_text("retrieval\n")
        return tmp_path / "set" / "val"

    return make


CAPTIONS = [["a red hat", "a hat"], ["two screws"], ["a dog on a leash", "the dog"], ["a round chair", "a chair"]]
DOMAINS = ["in-domain", "out-domain", "in-domain", None]


def test_domains_are_scored_on_their_own(shards):
    facts = [{"image_id": 7 + n, "domain": domain} for n, domain in enumerate(DOMAINS)]
    said = ["a hat", "two screws", "a dog", "a table"]
    scored = score(Parrot(said), data(paths={"test": shards(CAPTIONS, facts)}, limit=None))
    inside = score_captions([said[0], said[2]], [CAPTIONS[0], CAPTIONS[2]]).metrics
    assert {name: scored.metrics[f"{name}/in-domain"] for name in inside} == inside
    assert scored.metrics["in-domain_count"] == 2 and scored.metrics["out-domain_count"] == 1
    assert [row["image_id"] for row in json.loads(scored.files["results.json"])] == [7, 8, 9, 10]


def test_without_references_there_is_only_the_file(shards):
    scored = score(Parrot(["a", "a", "b"]), data(paths={"test": shards([[]] * 3, [{}] * 3)}, limit=None))
    assert scored.metrics == {"distinct_captions": pytest.approx(2 / 3), "mean_words": 1}
    rows = json.loads(scored.files["results.json"])
    assert rows == [{"image_id": n, "caption": caption} for n, caption in enumerate("aab")]


def test_a_picture_without_a_caption_among_others_is_refused(shards):
    with pytest.raises(ValueError, match="1 pictures have no caption, the first is picture_1"):
        score(Parrot(["a"] * 2), data(paths={"test": shards([["a"], []], [{}] * 2)}, limit=None))


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="needs a captioning model"):
        score(SimpleNamespace(embed_texts=None), data())
