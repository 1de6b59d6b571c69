"""Measures what autograd keeps of the authors' own MH-MoE layer: `RELEASED_MB` of mm_mhmoe/analysis/layer_bench.py.

The same code and environment as make_released_mhmoe.py, with mm-mhmoe installed too:

    python tests/golden/measure_released_memory.py MH-MoE_DIRECTORY TUTEL_DIRECTORY

Their linear gate with normalised weights, experts with GELU and biases, in training; all of it in fp32 or bf16.
"""

import importlib
import sys
from argparse import Namespace
from pathlib import Path

import torch
import torch.distributed as dist
from make_released_mhmoe import TORCHSCALE, import_theirs

from mm_mhmoe.analysis.layer_bench import SIZES, LayerSize
from mm_mhmoe.analysis.timing import saved_bytes


def build(size: LayerSize) -> torch.nn.Module:
    layer_file, gate_file, experts_file = (
        importlib.import_module(f"torchscale.component.{name}")
        for name in ("xmoe.tutel_moe_layer", "xmoe.tutel_routing", "feedforward_network")
    )
    args = Namespace(
        decoder_embed_dim=size.dim, mhmoe_heads_number=size.heads, moe_expert_count=size.experts, moe_top_k=size.top_k,
        moe_lora_rank=-1, rms_norm=False, layernorm_eps=1e-5, dropout=0.0, activation_dropout=0.0, ddp_rank=0,
        model_parallel_size=1, group_norm_size=1, input_bits=32, weight_bits=32, input_quant_method="absmax_per_token",
        weight_quant_method="absmean", **{**TORCHSCALE, "subln": False},
    )  # fmt: skip
    width = size.dim // size.heads
    gate = gate_file.TopkGate(args, width, size.experts, use_fp32=True, normalize_gate_prob_before_dropping=True)
    return layer_file.MOELayer(gate, experts_file.make_experts(args, width, size.hidden, True), args).train()


def main(mhmoe: str, tutel: str) -> None:
    import_theirs(Path(mhmoe), Path(tutel))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    for name, size in SIZES.items():
        for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            torch.manual_seed(0)
            layer = build(size).to(dtype)
            x = torch.randn(1, size.tokens, size.dim, dtype=dtype, requires_grad=True)
            kept = saved_bytes(lambda layer=layer, x=x: layer(x)[0], layer.parameters())
            print(name, kind, f"{kept / 1e6:.0f} MB")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:3])
