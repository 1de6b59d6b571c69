"""Golden values of BEiT-v2's visual tokenizer: tests/golden/beit2_vqkd.safetensors.

What runs is theirs: `VQKD` of beit2/modeling_vqkd.py with `VisionTransformer` of beit2/modeling_finetune.py and
`NormEMAVectorQuantizer` of beit2/norm_ema_quantizer.py, from the GitHub repository microsoft/unilm at 768a3c87.

Check it out, and in a throw-away environment:

    pip install torch==2.14.1 timm==1.0.31 safetensors einops numpy
    python tests/golden/make_beit2_vqkd.py UNILM_DIRECTORY/beit2

What is not theirs, and why it changes no number:

* Sizes are small: 4x4 patches of 4 px, width 32, 2 heads, 2 blocks before the codebook and 1 after it, 24 codes of 8.
* timm has moved timm.models.layers and timm.models.registry; the names that they import are put there.
* vqkd_teacher needs packages and downloads of CLIP and DINO, and their `utils` a whole training environment: both are
  empty modules. The teacher's features are random and handed in by overriding `get_regress_target`.
* Biases and norms are random, for ones and zeros would compare nothing.

Saved: a state dictionary by their names; pictures in 0..255, their codes, what is decoded from them, both parts of the
loss, and some gradients, all without k-means or update; and their quantizer started by k-means from seed 3 and updated
thrice.
"""

import copy
import sys
import types
from functools import partial
from pathlib import Path

import timm.layers
import torch
from safetensors.torch import save_file
from torch import nn

SMALL = {
    "img_size": 16, "patch_size": 4, "in_chans": 3, "num_classes": 0, "embed_dim": 32, "depth": 2, "num_heads": 2,
    "mlp_ratio": 4.0, "qkv_bias": True, "norm_layer": partial(nn.LayerNorm, eps=1e-6), "init_values": 0.0,
    "use_abs_pos_emb": True, "use_rel_pos_bias": False, "use_shared_rel_pos_bias": False, "use_mean_pooling": True,
}  # fmt: skip
DECODER = {**SMALL, "img_size": 4, "patch_size": 1, "in_chans": 8, "depth": 1}
CODES, CODE_DIM, TEACHER_DIM = 24, 8, 12
GRADIENTS = ("encoder.patch_embed.proj.weight", "encoder.blocks.0.attn.q_bias", "encode_task_layer.2.weight",
             "decoder.patch_embed.proj.weight", "decode_task_layer.0.bias")  # fmt: skip


def import_theirs(beit2: Path) -> tuple[types.ModuleType, types.ModuleType]:
    moved = types.ModuleType("timm.models.layers")
    for name in ("drop_path", "to_2tuple", "trunc_normal_"):
        setattr(moved, name, getattr(timm.layers, name))
    registry = types.ModuleType("timm.models.registry")
    registry.register_model = lambda function: function
    teachers = types.ModuleType("vqkd_teacher")
    teachers.clip = teachers.get_dino_vit_base = None
    sys.modules |= {"timm.models.layers": moved, "timm.models.registry": registry, "vqkd_teacher": teachers}
    sys.modules["utils"] = types.ModuleType("utils")
    sys.path.insert(0, str(beit2))
    import modeling_vqkd
    import norm_ema_quantizer

    return modeling_vqkd, norm_ema_quantizer


def main(beit2: str) -> None:
    theirs, quantizers = import_theirs(Path(beit2))
    torch.manual_seed(0)
    model = theirs.VQKD(
        copy.copy(SMALL), copy.copy(DECODER), CODES, CODE_DIM, quantize_kmeans_init=False, teacher_model_type="None",
        decoder_out_dim=TEACHER_DIM,
    )  # fmt: skip
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and not name.startswith("quantize"):
            nn.init.normal_(parameter, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.1)
        elif "patch_embed" in name or (parameter.dim() == 2 and not name.startswith("quantize")):
            parameter.data *= 6  # so that pictures, and patches of one, differ in their codes
    weights = {f"model.{name}": value.clone() for name, value in model.state_dict().items()}

    pixels = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    scaled = pixels / 255.0
    target = torch.randn(6, 16, TEACHER_DIM)
    model.get_regress_target = lambda x, **kwargs: target
    codes = model.eval().get_codebook_indices(scaled)
    quantized, _, _ = model.encode(model.pre_process(scaled))
    decoded = model.decode(quantized)
    model.train()
    model.quantize.embedding.update = False
    total, parts = model(scaled)
    total.backward()
    golden = {
        **weights, "pixels": pixels, "target": target, "codes": codes, "decoded": decoded, "loss": total,
        "distance": parts["train/rec_loss"], "commitment": parts["train/quant_loss"],
    }  # fmt: skip
    golden |= {f"grad.{name}": model.get_parameter(name).grad for name in GRADIENTS}
    print(len(codes.unique()), "codes in use; distance", float(golden["distance"]))

    vectors = torch.randn(3, 2, CODE_DIM, 8, 8)
    codebook = quantizers.NormEMAVectorQuantizer(CODES, CODE_DIM, beta=1.0, decay=0.9, kmeans_init=True)
    before = codebook.embedding.init_embed_

    def keep(data: torch.Tensor) -> None:
        before(data)
        golden.setdefault("started", codebook.embedding.weight.clone())

    codebook.embedding.init_embed_ = keep
    torch.manual_seed(3)
    for step, batch in enumerate(vectors):
        golden[f"vectors.{step}"] = batch.permute(0, 2, 3, 1).reshape(-1, CODE_DIM)
        golden[f"codes.{step}"] = codebook(batch)[2]
        golden[f"codebook.{step}"] = codebook.embedding.weight.clone()
    golden = {name: value.detach().clone().contiguous() for name, value in golden.items()}
    save_file(golden, Path(__file__).with_name("beit2_vqkd.safetensors"))


if __name__ == "__main__":
    main(sys.argv[1])
