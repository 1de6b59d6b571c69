"""Truth: a search in loops that encodes picture, text and mask token anew for every token of every beam."""

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import MoEConfig, TextConfig
from mm_mhmoe.models.beam_search import SearchOptions
from mm_mhmoe.models.checkpoints import build, describe, load, load_init, save
from mm_mhmoe.models.tasks import CaptionModel, PretrainModel, VQAModel

SPARSE = MoEConfig(num_experts=4, top_k=2, heads=4, every=1)


def make(config, search=SearchOptions(), **changes):  # noqa: B008
    torch.manual_seed(1)
    changes = {"text": TextConfig(vocab_size=30, max_length=8), **changes}
    model = CaptionModel(config(**changes), search).double().eval()
    torch.nn.init.normal_(model.head.weight)
    return model


def logp_without_cache(model, images, tokens):
    ids = torch.tensor([[0, *tokens, 4]])
    texts = Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool))
    states = model.encoder(ImageTextBatch(images=images, texts=texts, causal_text=True)).streams[0].text_BLD
    return model.head(states[0, -1]).log_softmax(0).tolist()


def write_without_cache(model, images):
    """Tokens and score; the search of tests/models/test_beam_search.py for one picture."""
    search = model.search
    longest = (search.max_length or model.text.max_length) - 1
    beams, results = [(0.0, ())], []
    for length in range(1, longest + 1):
        candidates = []
        for before, tokens in beams:
            logp = logp_without_cache(model, images, tokens)
            for token in range(model.text.vocab_size):
                if token == 2 or (length < longest and token > 4):
                    candidates.append((before + logp[token], tokens, token))
        beams = []
        candidates.sort(key=lambda candidate: -candidate[0])
        for logp, tokens, token in candidates:
            if len(beams) == search.beams:
                break
            if token == 2:
                results.append((logp / length**search.length_penalty, tokens))
            else:
                beams.append((logp, (*tokens, token)))
        if search.beams == 1 and candidates[0][2] == 2:
            break
    return list(max(results)[1])


@pytest.mark.parametrize("changes", [{"ffn": "dense"}, {"moe": SPARSE}, {"moe": SPARSE, "multiway": True}], ids=str)
@pytest.mark.parametrize(
    "search", [SearchOptions(beams=1), SearchOptions(beams=3), SearchOptions(max_length=5)], ids=str
)
def test_writes_what_a_search_without_a_cache_finds(config, stream, changes, search):
    model = make(config, search, **changes)
    images = stream("images", rows=4, dtype=torch.float64).images
    written = model.write_captions(images)
    for row, tokens in enumerate(written):
        one = Images(pixels_BCHW=images.pixels_BCHW[row : row + 1])
        assert tokens == write_without_cache(model, one) == model.write_captions(one)[0]
    assert len({tuple(tokens) for tokens in written}) > 1


def test_captions_end_in_time_and_have_no_special_tokens(config, stream):
    model = make(config)
    model.head.bias.data[:5] = 50.0
    model.head.bias.data[2] = -50.0  # never ends by itself
    written = model.write_captions(stream("images", rows=3, dtype=torch.float64).images)
    assert all(len(tokens) == 6 and min(tokens) > 4 for tokens in written)


def test_needs_pictures_and_causal_captions(config, stream):
    model = CaptionModel(config())
    for batch in (stream("texts"), stream("pairs")):
        with pytest.raises(ValueError, match="causal_text=True"):
            model(batch)


def test_a_longer_caption_than_the_encoder_takes_is_refused(config):
    with pytest.raises(ValueError, match=r"search.max_length=9.*text.max_length=8"):
        make(config, SearchOptions(max_length=9))


def test_is_saved_with_its_search(config, tmp_path):
    model = make(config, SearchOptions(beams=5, no_repeat=2)).float()
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, CaptionModel) and again.search == model.search
    assert torch.equal(again.head.weight, model.head.weight) and describe(build(describe(model))) == describe(model)


def test_begins_with_the_head_over_words_of_another_model(config, tmp_path):
    pretrained = PretrainModel(config(), 8)
    torch.nn.init.normal_(pretrained.text_head.bias)
    save(pretrained, tmp_path / "pretrained")
    model, other = CaptionModel(config()), CaptionModel(config(), SearchOptions(beams=1))
    load_init(tmp_path / "pretrained", model)
    save(model, tmp_path / "model")
    load_init(tmp_path / "model", other)
    for ours in (model, other):
        assert torch.equal(ours.head.weight, pretrained.text_head.weight)
        assert torch.equal(ours.head.bias, pretrained.text_head.bias)
    answering = CaptionModel(config())
    before = answering.head.weight.clone()
    save(VQAModel(config(), ["yes", "no"]), tmp_path / "vqa")
    load_init(tmp_path / "vqa", answering)
    assert torch.equal(answering.head.weight, before)
