"""Truth: torchscale's states, through the files of both commands; timm's own. Random weights, made-up words."""

import json
from pathlib import Path

import pytest
import sentencepiece as spm
import timm
import torch
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from safetensors.torch import load_file, save_file

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.commands import import_model
from mm_mhmoe.models.checkpoints import load, load_encoder, read_config
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, VQAModel

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "torchscale_beit3.safetensors")


@pytest.fixture
def checkpoint(tmp_path: Path, released):
    """The released names as a .pth file, with some weights more or changed."""

    def make(**changes: torch.Tensor) -> Path:
        torch.save({"model": {**released, **changes}}, tmp_path / "beit3.pth")
        return tmp_path / "beit3.pth"

    return make


def test_a_directory_computes_what_torchscale_does(checkpoint, call, tmp_path: Path) -> None:
    code, out, err = call(
        "import", "beit3", "--source", checkpoint(), "--out", tmp_path / "m", "--num_heads", 2, "--max_length", 7
    )
    assert code == 0, err
    assert "pretrain, 2 blocks of 16, 2 heads, FFN 32, multiway" in out and "tokenizer: none" in out
    model = load(tmp_path / "m")
    texts = Texts(ids_BL=GOLDEN["ids"], valid_BL=~GOLDEN["padding"])
    (part,) = model.encoder(ImageTextBatch(images=Images(pixels_BCHW=GOLDEN["pixels"]), texts=texts)).streams
    torch.testing.assert_close(part.image_BND, GOLDEN["states.pair"][:, :5], rtol=0.0, atol=1e-5)
    record = read_config(tmp_path / "m")["run"]
    assert record["command"] == "import beit3" and record["arguments"]["source"].endswith("beit3.pth")


def test_words_keep_their_rows(checkpoint, xlmr_words, tmp_path: Path) -> None:
    """A text's states are those under XLM-RoBERTa's ids in the checkpoint's own order."""
    vocabulary = torch.randn(40, 16)
    source = checkpoint(**{"beit3.text_embed.weight": vocabulary})
    options = {"num_heads": 2, "max_length": 10}
    import_model.beit3(source, tmp_path / "plain", **options)
    import_model.beit3(source, tmp_path / "words", sentencepiece=xlmr_words(30), **options)
    plain, model = load(tmp_path / "plain"), load(tmp_path / "words")
    words = Tokenizer.load(tmp_path / "words")
    words.check(model.text)
    text = "a red"
    ids = words.encode(text, 10)
    theirs = [0, *(i + 1 for i in spm.SentencePieceProcessor(model_file=str(xlmr_words(30))).encode(text)), 2]
    assert len(ids) == len(theirs) <= 10 and ids != theirs
    states = [
        made.encoder(
            ImageTextBatch(texts=Texts(ids_BL=torch.tensor([row]), valid_BL=torch.ones(1, len(row), dtype=torch.bool)))
        )
        .streams[0]
        .text_BLD
        for made, row in ((plain, theirs), (model, ids))
    ]
    assert torch.equal(*states)
    assert torch.equal(model.encoder.text.tokens.weight[model.text.mask_id], vocabulary[31])


def test_retrieval_heads_and_larger_pictures(checkpoint, tmp_path: Path) -> None:
    heads = {f"{name}_head.weight": torch.randn(16, 16) for name in ("vision", "language")}
    source = checkpoint(**heads, logit_scale=torch.tensor(2.0))
    import_model.beit3(source, tmp_path / "m", num_heads=2, max_length=7, image_size=16)
    model = load(tmp_path / "m")
    assert isinstance(model, RetrievalModel) and model.vision.num_patches == 16
    import_model.beit3(source, tmp_path / "small", num_heads=2, max_length=5)
    load_encoder(tmp_path / "small", model)  # another size and another longest text: the same weights but positions
    small = load(tmp_path / "small").encoder.state_dict()
    for name, value in model.encoder.state_dict().items():
        if name != "image.positions_ND":
            assert torch.equal(value, small[name])
    assert torch.equal(model.encoder.image.positions_ND[0], small["image.positions_ND"][0])
    assert len(model.encoder.image.positions_ND) == 17


def test_errors_name_the_weight_and_leave_nothing(checkpoint, call, tmp_path: Path) -> None:
    name = "beit3.encoder.layers.0.self_attn.out_proj.A.weight"
    words = ("import", "beit3", "--source", checkpoint(**{name: torch.zeros(3, 16)}), "--out", tmp_path / "m")
    code, _, err = call(*words, "--num_heads", 2, "--max_length", 7)
    assert code == 1 and "Traceback" not in err
    assert f"{name} has shape (3, 16) instead of (16, 16)" in " ".join(err.split())
    assert not (tmp_path / "m").exists()
    code, _, err = call(*words[:-1], tmp_path)
    assert code == 1 and "exists; choose another --out" in err


def test_timm_from_a_file(tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224").eval()
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    train_tokenizer(["a red car and the blue boat by a tree"] * 20, tmp_path / "words", vocab_size=24)
    options = {"source": tmp_path / "vit.safetensors", "tokenizer": tmp_path / "words", "num_codes": 6}
    import_model.timm("vit_tiny_patch16_224", tmp_path / "m", **options)
    assert "tokenizer: there" in capsys.readouterr().out
    model = load(tmp_path / "m")
    assert isinstance(model, PretrainModel) and model.num_codes == 6 and not model.config.sub_ln
    assert model.text.vocab_size == len(Tokenizer.load(tmp_path / "m"))
    pixels = torch.rand(1, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        (part,) = model.encoder(ImageTextBatch(images=Images(pixels_BCHW=pixels))).streams
        torch.testing.assert_close(part.image_BND, vit.forward_features(pixels), rtol=0.0, atol=1e-5)


def test_timm_has_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"name=vit_nothing: timm cannot make this model.*timm.list_models"):
        import_model.timm("vit_nothing", tmp_path / "m")


def test_beit2_in_the_layout_of_its_authors(call, tmp_path: Path) -> None:
    """The `model` key, shared table and heads of a pretrained checkpoint, from timm's random BEiT-v2."""
    torch.manual_seed(0)
    shared = {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True, "global_pool": "token"}
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    beit = timm.create_model("beitv2_base_patch16_224", **shared, **size).eval()
    torch.nn.init.normal_(beit.rel_pos_bias.relative_position_bias_table)
    heads = {
        "lm_head.weight": torch.randn(10, 24),
        "lm_head.bias": torch.randn(10),
        "mask_token": torch.randn(1, 1, 24),
    }
    torch.save({"model": beit.state_dict() | heads, "epoch": 3}, tmp_path / "beitv2.pth")
    words = ("import", "beit2", "--source", tmp_path / "beitv2.pth", "--out", tmp_path / "m", "--num_codes", 10)
    code, out, err = call(*words)
    assert code == 0, err
    assert "pretrain, 2 blocks of 24, 3 heads" in out
    model = load(tmp_path / "m")
    assert torch.equal(model.image_head.bias, heads["lm_head.bias"])
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(beit.pretrained_cfg[part]).view(3, 1, 1) for part in ("mean", "std"))
    with torch.no_grad():
        (part,) = model.encoder(ImageTextBatch(images=Images(pixels_BCHW=pixels))).streams
        theirs = beit.forward_features((pixels / 255 - mean) / std)
    torch.testing.assert_close(part.image_BND, theirs, rtol=0.0, atol=1e-5)


class Runs:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_that_runs_code_is_refused(call, tmp_path: Path) -> None:
    torch.save({"model": Runs(tmp_path / "ran")}, tmp_path / "beitv2.pth")
    code, _, err = call("import", "beit2", "--source", tmp_path / "beitv2.pth", "--out", tmp_path / "m")
    assert code == 1 and "cannot be read as weights" in " ".join(err.split())
    assert not (tmp_path / "ran").exists() and not (tmp_path / "m").exists()


def test_a_fine_tuned_beit3_with_the_names_of_its_answers(call, tmp_path: Path) -> None:
    """Golden weights (tests/golden/make_beit3_finetuned.py), with the names of a released checkpoint."""
    golden = load_file(Path(__file__).parents[1] / "golden" / "beit3_finetuned.safetensors")
    weights = {k.split(":", 1)[1]: v for k, v in golden.items() if k.startswith("vqa:")}
    weights |= {k.removeprefix("encoder."): v for k, v in golden.items() if k.startswith("encoder.beit3.")}
    weights = {k: v for k, v in weights.items() if "encoder.layer_norm." not in k}
    torch.save({"model": weights}, tmp_path / "x.pth")
    lines = [json.dumps({"answer": f"answer {n}", "label": n}) + "\n" for n in range(5)]
    (tmp_path / "answer2label.txt").write_text("".join(lines))
    words = ["import", "beit3", "--source", tmp_path / "x.pth", "--num_heads", 2, "--max_length", 7]
    code, _, err = call(*words, "--out", tmp_path / "out")
    assert code == 1 and "x.pth tells 5 apart" in err and "--names" in err and not (tmp_path / "out").exists()
    code, out, _ = call(*words, "--out", tmp_path / "out", "--names", tmp_path / "answer2label.txt")
    assert code == 0 and "vqa" in out
    model = load(tmp_path / "out")
    assert isinstance(model, VQAModel) and model.answers[4] == "answer 4" and not model.config.final_norm
    texts = Texts(ids_BL=golden["ids"], valid_BL=~golden["padding"])
    found = model.answer_logits(ImageTextBatch(images=Images(pixels_BCHW=golden["left"]), texts=texts))
    torch.testing.assert_close(found, golden["vqa.logits"], rtol=1e-4, atol=2e-5)
    code, out, _ = call(*words, "--out", tmp_path / "encoder", "--task", "pretrain")
    assert code == 0 and "pretrain" in out
