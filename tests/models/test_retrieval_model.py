"""Truth: the parts put together by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.checkpoints import load, load_init, save
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, VQAModel


def test_rescoring_is_log_odds_and_scaled_cosine(config, stream) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(config(), embed_dim=8, match=True).eval()
    pairs, cosine = stream(rows=4), torch.linspace(-1, 1, 4)
    with torch.no_grad():
        yes = model.match_head(model.encoder(pairs).streams[0].image_BND[:, 0]).softmax(dim=1)[:, 1]
        wanted = torch.log(yes / (1 - yes)) + cosine / 0.07  # the scale that a head starts with
    torch.testing.assert_close(model.rescore(pairs, cosine), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="--match true"):
        RetrievalModel(config(), embed_dim=8).rescore(pairs, cosine)


@pytest.mark.parametrize("match", [False, True])
def test_saved_and_loaded(config, stream, tmp_path: Path, match: bool) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(config(), embed_dim=8, match=match).eval()
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, RetrievalModel) and (again.match_head is not None) == match
    images = ImageTextBatch(images=stream().images).images
    assert torch.equal(again.embed_images(images), model.embed_images(images))


def heads(model) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("encoder.")}


def test_heads_of_contrastive_pretraining_are_taken(config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = PretrainModel(config(), 8, embed_dim=8)
    save(source, tmp_path / "pretrain")
    model = RetrievalModel(config(), embed_dim=8, match=True)
    load_init(tmp_path / "pretrain", model)
    for ours, theirs in ((model.head, source.contrastive_head), (model.match_head, source.match_head)):
        assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.encoder.parameters(), source.encoder.parameters(), strict=True))
    save(model, tmp_path / "retrieval")
    again = RetrievalModel(config(), embed_dim=8)  # its match head is left behind
    load_init(tmp_path / "retrieval", again)
    assert torch.equal(again.head.image_proj.weight, source.contrastive_head.image_proj.weight)


@pytest.mark.parametrize("embed_dim", [None, 16])
def test_heads_of_another_width_are_not(config, tmp_path: Path, embed_dim) -> None:
    save(PretrainModel(config(), 8, embed_dim=embed_dim), tmp_path / "pretrain")
    model = RetrievalModel(config(), embed_dim=8, match=True)
    before = heads(model)
    load_init(tmp_path / "pretrain", model)
    assert all(torch.equal(value, before[name]) for name, value in heads(model).items())


def test_answer_heads_go_on_with_the_same_answers_only(config, tmp_path: Path) -> None:
    source = VQAModel(config(), ["yes", "no"])
    save(source, tmp_path / "vqa")
    for answers, taken in ((["yes", "no"], True), (["no", "yes"], False)):
        model = VQAModel(config(), answers)
        load_init(tmp_path / "vqa", model)
        assert torch.equal(model.head.pool[1].weight, source.head.pool[1].weight) == taken
