"""Golden values of the authors' own MH-MoE layer: tests/golden/released_mhmoe.safetensors.

What runs is theirs: `MOELayer` (multi-head layer, split, dispatch, merge), `TopkGate` (choices, weights, capacity,
balance loss) and `FeedForwardNetwork` (the experts) from tools/torchscale-private/torchscale/component of the GitHub
repository yushuiwx/MH-MoE at c96915ef, and the dispatcher that they call, tutel.moe.fast_dispatcher with its C++
kernels for CPUs, from microsoft/tutel at 82af7aad.

Check both out, and in a throw-away environment with a C++ compiler:

    pip install torch==2.14.1 safetensors einops numpy setuptools ninja
    python tests/golden/make_released_mhmoe.py MH-MoE_DIRECTORY TUTEL_DIRECTORY

What is not theirs, and why it changes no number:

* fairseq is an empty module with three names that only their tensor parallelism calls; it is off. Without
  fairseq.modules their layer inherits from torch's Module; it replaces fairseq's `__init__` and `forward` in any case.
* apex is absent; they then take torch's LayerNorm, which computes the same.
* One process in a gloo group: their all-to-all and their padding between processes have nothing to do.
* Their options are given as a namespace: 32 bits, which switches their quantised Linear to a plain one, as in their
  command (scripts/run.sh).

Cases: their two gates, top-1 and top-2, experts as in torchscale and as in their command, capacities that drop and one
that does not. In training their capacity is k ceil(S / E); in evaluation it is a share of S.
"""

import importlib
import sys
import types
from argparse import Namespace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.utils.cpp_extension import load

DIM, EXPERTS, HIDDEN = 16, 8, 8
# Their command's experts: SiLU makes three matrices, no bias. Its gate is not X-MoE's, and decoder.py does not hand the
# command's --moe-normalize-gate-prob-before-dropping on to it: weights stay probabilities.
COMMAND = {"activation_fn": "silu", "no_bias": True, "subln": False}
TORCHSCALE = {"activation_fn": "gelu", "no_bias": False, "subln": True}
CASES = {
    "xmoe_top1": {"top_k": 1, "heads": 4, "tokens": 26, "xmoe": True, "experts": TORCHSCALE},
    "xmoe_top2_ample": {
        "top_k": 2, "heads": 4, "tokens": 26, "xmoe": True, "experts": TORCHSCALE, "normalized": True, "ample": True,
    },
    "linear_top2_normalized": {
        "top_k": 2, "heads": 2, "tokens": 26, "xmoe": False, "experts": TORCHSCALE, "normalized": True,
    },
    "command_top2": {"top_k": 2, "heads": 4, "tokens": 25, "xmoe": False, "experts": COMMAND},
    "command_one_head": {"top_k": 1, "heads": 1, "tokens": 50, "xmoe": False, "experts": COMMAND},
}  # fmt: skip


def import_theirs(mhmoe: Path, tutel: Path) -> None:
    """Makes torchscale and tutel importable, with Tutel's kernels compiled for CPUs."""
    unused = types.ModuleType("fairseq.distributed.utils")
    for name in ("get_model_parallel_group", "get_model_parallel_world_size", "all_reduce"):
        setattr(unused, name, None)
    sys.modules["fairseq"] = types.ModuleType("fairseq")
    sys.modules["fairseq.distributed"] = types.ModuleType("fairseq.distributed")
    sys.modules["fairseq.distributed.utils"] = unused
    kernels = load("tutel_custom_kernel", [str(tutel / "tutel/custom/custom_kernel.cpp")])
    sys.modules["tutel_custom_kernel"] = kernels
    sys.path[:0] = [str(tutel), str(mhmoe / "tools/torchscale-private")]


def run(case: dict) -> dict[str, torch.Tensor]:
    layer_file, gate_file, experts_file = (
        importlib.import_module(f"torchscale.component.{name}")
        for name in ("xmoe.tutel_moe_layer", "xmoe.tutel_routing", "feedforward_network")
    )
    args = Namespace(
        decoder_embed_dim=DIM, mhmoe_heads_number=case["heads"], moe_expert_count=EXPERTS, moe_top_k=case["top_k"],
        moe_lora_rank=-1, rms_norm=False, layernorm_eps=1e-5, dropout=0.0, activation_dropout=0.0, ddp_rank=0,
        model_parallel_size=1, group_norm_size=1, input_bits=32, weight_bits=32, input_quant_method="absmax_per_token",
        weight_quant_method="absmean", **case["experts"],
    )  # fmt: skip
    width = DIM // case["heads"]
    gate = gate_file.TopkGate(
        args,
        width,
        EXPERTS,
        use_fp32=True,
        normalize_gate_prob_before_dropping=case.get("normalized", False),
        moe_eval_capacity_token_fraction=1.0 if case.get("ample") else -1.0,
        use_xmoe=case["xmoe"],
    )
    experts = experts_file.make_experts(args, width, HIDDEN, True)
    layer = layer_file.MOELayer(gate, experts, args).train(not case.get("ample"))
    for name, parameter in layer.named_parameters():
        if parameter.dim() == 1:  # norms and biases must not be ones and zeros, or they would compare nothing
            torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.3)
        if "wg" in name or "multi_heads.weight" in name:
            parameter.data *= 3  # so that weights differ and loads are uneven
    x = torch.randn(1, case["tokens"], DIM, requires_grad=True)
    y, l_aux = layer(x)
    pull = torch.randn_like(y)
    ((y * pull).sum() + l_aux).backward()
    dispatcher = layer._tutel_dispatcher
    sent = torch.stack([place < dispatcher.capacity for place in dispatcher.locations_], dim=1)
    golden = {"x": x, "y": y, "l_aux": l_aux, "pull": pull, "grad.x": x.grad, "sent": sent}
    golden["capacity"] = torch.tensor(dispatcher.capacity)
    for kind, part in (("weight", lambda p: p), ("grad", lambda p: p.grad)):
        for name, parameter in layer.named_parameters():
            if not name.startswith("experts."):
                golden[f"{kind}.{name}"] = part(parameter)
        for name, _ in layer.experts[0].named_parameters():
            golden[f"{kind}.experts.{name}"] = torch.stack([part(e.get_parameter(name)) for e in layer.experts])
    return {name: value.detach().clone().contiguous() for name, value in golden.items()}


def main(mhmoe: str, tutel: str) -> None:
    import_theirs(Path(mhmoe), Path(tutel))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    golden = {}
    for number, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(number)
        golden |= {f"{name}.{key}": value for key, value in run(case).items()}
        sent = golden[f"{name}.sent"]
        print(name, "drops", int((~sent).sum()), "of", sent.numel(), "choices")
    save_file(golden, Path(__file__).with_name("released_mhmoe.safetensors"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:3])
