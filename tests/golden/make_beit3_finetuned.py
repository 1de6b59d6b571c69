"""Golden values of BEiT-3's fine-tuned models: tests/golden/beit3_finetuned.safetensors and beit3_finetuned_names.json.

The models are beit3/modeling_finetune.py and modeling_utils.py of github.com/microsoft/unilm, commit
51cc8f9da282b73c399e5c63aef4d87fe0099cdc, which has no package. In a throw-away environment:

    pip install torch==2.14.1 safetensors numpy timm
    pip install --no-deps torchscale==0.3.0
    PYTHONPATH=unilm/beit3 python tests/golden/make_beit3_finetuned.py

Small models with random weights, LayerNorms and biases too, all with one encoder: weights, inputs and what the models
answer. And names and shapes of the weights of all published base models, built on torch's meta device.
"""

import importlib
import json
import sys
import types
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

SMALL = {
    "encoder_embed_dim": 16,
    "encoder_attention_heads": 2,
    "encoder_ffn_embed_dim": 32,
    "encoder_layers": 2,
    "img_size": 8,
    "patch_size": 4,
    "vocab_size": 24,
    "max_source_positions": 12,
    "multiway": True,
    "no_output_layer": True,
}
ROWS, LENGTH, ANSWERS, CLASSES = 3, 7, 5, 6
PUBLISHED = {
    "retrieval": "beit3_base_patch16_384_retrieval",
    "vqa": "beit3_base_patch16_480_vqav2",
    "nlvr2": "beit3_base_patch16_224_nlvr2",
    "captioning": "beit3_base_patch16_480_captioning",
    "imagenet": "beit3_base_patch16_224_imageclassification",
}


class ClipLoss(nn.Module):
    def __init__(self, **_: int) -> None:
        super().__init__()


def stub() -> None:
    """What is imported for sharding, other tasks' data and distributed training, and not used here."""
    fairscale = types.ModuleType("fairscale.nn")
    fairscale.checkpoint_wrapper = fairscale.wrap = None
    utils = types.ModuleType("utils")
    utils.ClipLoss, utils.get_rank, utils.get_world_size = ClipLoss, lambda: 0, lambda: 1
    sys.modules |= {"fairscale": types.ModuleType("fairscale"), "fairscale.nn": fairscale, "utils": utils}


def small_models(tuned, config) -> dict[str, nn.Module]:
    def of(kind: str, **options):
        normalised = options.pop("normalize_output", True)
        return getattr(tuned, kind)(config.EncoderConfig(normalize_output=normalised, **SMALL), **options).eval()

    return {
        "retrieval": of("BEiT3ForRetrieval"),
        "vqa": of("BEiT3ForVisualQuestionAnswering", num_classes=ANSWERS, normalize_output=False),
        "nlvr2": of("BEiT3ForVisualReasoning", num_classes=2),
        "captioning": of("BEiT3ForCaptioning"),
        "imagenet": of("BEiT3ForImageClassification", num_classes=CLASSES, normalize_output=False),
    }


def randomise(models: dict[str, nn.Module]) -> None:
    first = dict(models["retrieval"].named_parameters())
    with torch.no_grad():
        for model in models.values():
            for name, value in model.named_parameters():
                norm = "norm" in name and name.endswith("weight")
                value.copy_(torch.randn_like(value) * 0.3 + norm)
                if name.startswith("beit3."):
                    value.copy_(first[name])


def answers(models: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    left, right = (torch.rand(ROWS, 3, 8, 8) * 2 - 1 for _ in range(2))
    ids = torch.randint(5, SMALL["vocab_size"], (ROWS, LENGTH))
    padding = torch.arange(LENGTH) >= torch.tensor([[7], [4], [6]])
    asked = padding.logical_not().clone()
    asked[:, 0] = False
    with torch.no_grad():
        image, text = models["retrieval"](left, ids, padding, only_infer=True)
        written, _ = models["captioning"](left, ids, padding, language_masked_pos=asked)
        return {
            "left": left,
            "right": right,
            "ids": ids,
            "padding": padding,
            "asked": asked,
            "retrieval.image": image,
            "retrieval.text": text,
            "vqa.logits": models["vqa"](left, ids, padding),
            "nlvr2.logits": models["nlvr2"](left, right, ids, padding),
            "captioning.logits": written,
            "imagenet.logits": models["imagenet"](left),
        }


def names(model: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in model.state_dict().items()}


def main(folder: Path) -> None:
    stub()
    config = importlib.import_module("torchscale.architecture.config")
    tuned = importlib.import_module("modeling_finetune")
    torch.manual_seed(0)
    models = small_models(tuned, config)
    randomise(models)
    golden = answers(models)
    golden |= {f"encoder.{k}": v for k, v in models["retrieval"].state_dict().items() if k.startswith("beit3.")}
    for task, model in models.items():
        golden |= {f"{task}:{k}": v for k, v in model.state_dict().items() if not k.startswith("beit3.")}
    save_file({k: v.contiguous() for k, v in golden.items()}, folder / "beit3_finetuned.safetensors")
    with torch.device("meta"):
        published = {task: names(getattr(tuned, name)()) for task, name in PUBLISHED.items()}
    # Written once: what all have in common. Positions of patches differ by the size of pictures.
    common = {k: v for k, v in published["nlvr2"].items() if all(v == of.get(k) for of in published.values())}
    own = {task: {k: v for k, v in of.items() if k not in common} for task, of in published.items()}
    told = json.dumps({"common": common, **own}, separators=(",", ":"))
    (folder / "beit3_finetuned_names.json").write_text(told + "\n")


if __name__ == "__main__":
    main(Path(__file__).parent)
