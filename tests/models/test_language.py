import warnings
from dataclasses import replace

import pytest
import torch

from mm_mhmoe.batch import Texts
from mm_mhmoe.config import LANGUAGE_PRESETS, MoEConfig, language_preset
from mm_mhmoe.models import load, save
from mm_mhmoe.models.tasks.language import LanguageModel
from mm_mhmoe.objectives.language import next_token_loss

SMALL = language_preset("tiny", dim=32, depth=2, num_heads=4, ffn_dim=64)
RELEASED = language_preset("tiny", released=True, dim=32, depth=2, num_heads=4, ffn_dim=64)
ROUTERS = ("top_k", "xmoe", "xmoe_released", "sigmoid_bias")


def texts_of(rows, length, *, documents=None, seed=0):
    ids = torch.randint(5, 100, (rows, length), generator=torch.Generator().manual_seed(seed))
    return Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool), document_BL=documents)


def made(config, seed=0):
    torch.manual_seed(seed)
    return LanguageModel(config).eval()


def sparse(base, ffn, **options):
    return replace(base, ffn=ffn, moe=replace(base.moe, **options))


@pytest.mark.parametrize("base", [SMALL, RELEASED], ids=["paper", "released"])
@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
@pytest.mark.parametrize("router", ROUTERS)
def test_no_token_sees_a_later_one(base, ffn, router):
    model, texts = made(sparse(base, ffn, router=router)), texts_of(2, 9)
    changed = replace(texts, ids_BL=texts.ids_BL.clone())
    changed.ids_BL[:, 6:] += 1
    before, after = model(texts)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.allclose(before[:, 6:], after[:, 6:])


@pytest.mark.parametrize("base", [SMALL, RELEASED], ids=["paper", "released"])
def test_a_document_in_a_row_sees_nothing_of_the_one_before(base):
    """Truth: the document alone. Learned positions are those of the row, so only rotary ones compare directly."""
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    model, texts = made(base), texts_of(1, 7, documents=documents)
    changed = replace(texts, ids_BL=texts.ids_BL.clone())
    changed.ids_BL[:, :3] += 1
    torch.testing.assert_close(model(texts)[0][:, 3:], model(changed)[0][:, 3:])
    assert not torch.allclose(*(model(replace(t, document_BL=None))[0][:, 3:] for t in (texts, changed)))
    if base is RELEASED:
        alone = Texts(ids_BL=texts.ids_BL[:, 3:], valid_BL=texts.valid_BL[:, 3:])
        torch.testing.assert_close(model(texts)[0][:, 3:], model(alone)[0], rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing():
    model, texts = made(SMALL), texts_of(1, 8)
    short = Texts(ids_BL=texts.ids_BL, valid_BL=torch.arange(8).unsqueeze(0) < 5)
    cut = Texts(ids_BL=texts.ids_BL[:, :5], valid_BL=texts.valid_BL[:, :5])
    torch.testing.assert_close(model(short)[0][:, :5], model(cut)[0])
    nats = model.token_nats(short)
    torch.testing.assert_close(nats[:, :4], model.token_nats(cut))
    assert (nats[:, 4:] == 0).all()


def test_the_head_is_the_token_table_and_gets_its_gradient():
    """Truth: the loss written out with the table's transpose, differentiated by autograd."""
    model, texts = made(SMALL), texts_of(2, 9)
    states, _ = model(texts)
    found = next_token_loss(states, texts, model.head, bos_id=0)
    table = model.encoder.text.tokens.weight
    logits = states[:, :-1] @ table.t()
    wanted = torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts.ids_BL[:, 1:].flatten())
    torch.testing.assert_close(found.loss, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(loss, table, retain_graph=True) for loss in (found.loss, wanted)))
    torch.testing.assert_close(model.token_nats(texts).mean(), wanted)
    assert not any(name.startswith("head") for name in model.state_dict())


def test_begin_tokens_inside_a_row_and_padding_are_not_predicted():
    model = made(SMALL)
    ids = torch.tensor([[0, 7, 2, 0, 9, 2, 1, 1]])
    texts = Texts(ids_BL=ids, valid_BL=ids != 1)
    found = next_token_loss(model(texts)[0], texts, model.head, bos_id=0)
    nats = model.token_nats(texts)[0]
    assert found.positions == 4
    torch.testing.assert_close(found.loss, nats[[0, 1, 3, 4]].mean())


@pytest.mark.parametrize("name", LANGUAGE_PRESETS)
@pytest.mark.parametrize("released", [False, True])
def test_presets_start_with_logits_of_about_one(name, released):
    """But for that of the token itself, which is its own row of the table."""
    config = language_preset(name, released=released)
    if name != "tiny":  # large: their numbers are checked, not built
        config = replace(config, depth=2, text=replace(config.text, vocab_size=4000, max_length=64))
    model, texts = made(config), texts_of(2, 32)
    logits = model.head(model(texts)[0])
    assert 0.7 < logits.std() < 1.4


def test_saved_and_loaded(tmp_path):
    model, texts = made(sparse(RELEASED, "mh_moe")), texts_of(2, 9)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, LanguageModel) and again.config == model.config
    torch.testing.assert_close(again.token_nats(texts), model.token_nats(texts), rtol=0, atol=0)


def test_what_would_tell_of_later_tokens_is_refused_or_warned_of():
    with pytest.raises(ValueError, match="expert_choice compares each token"):
        made(sparse(SMALL, "moe", router="expert_choice"))
    for options in ({"top_k": 2}, {"top_k": 1, "drop_policy": "priority"}):
        with pytest.warns(UserWarning, match="later tokens"):
            made(sparse(SMALL, "moe", capacity_factor=1.0, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(sparse(SMALL, "moe", capacity_factor=1.0, top_k=1))


def test_a_capacity_by_position_tells_nothing_of_later_tokens():
    model, texts = made(sparse(SMALL, "mh_moe", capacity_factor=0.5, top_k=1)), texts_of(1, 9)
    changed = replace(texts, ids_BL=texts.ids_BL.clone())
    changed.ids_BL[:, 6:] += 1
    torch.testing.assert_close(model(texts)[0][:, :6], model(changed)[0][:, :6])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pictures": True}, "pictures=true"),
        ({"norm": "rms", "sub_ln": True}, "sub_ln=true"),
        ({"text_positions": "rotary", "dim": 36, "num_heads": 12}, "is odd"),
        ({"multiway": True}, "pictures=false leaves nothing"),
        ({"norm": "batch"}, "norm='batch'"),
    ],
)
def test_configurations_that_cannot_be(changes, told):
    with pytest.raises(ValueError, match=told):
        LanguageModel(replace(SMALL, ffn="dense", moe=MoEConfig(), **changes))
