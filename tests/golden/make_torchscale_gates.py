"""Golden values of torchscale's gates: tests/golden/torchscale_gates.safetensors.

torchscale pins an old timm, so it must not share an environment with this project. In a throw-away one:

    pip install torch==2.14.1 safetensors
    pip install --no-deps torchscale==0.3.0
    python tests/golden/make_torchscale_gates.py

Its published top-1 gate is X-MoE's with use_xmoe=True. Evaluation mode would use another capacity: gates stay in
training mode, with no noise.
"""

import importlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

TOKENS, DIM, EXPERTS = 48, 12, 8


def main(out: Path) -> None:
    routing = importlib.import_module("torchscale.component.xmoe.routing")
    histc = torch.histc  # for its logs only, on integers, which newer torch refuses
    torch.histc = lambda values, **options: histc(values.float(), **options)
    torch.manual_seed(0)
    x = torch.randn(TOKENS, DIM)
    golden = {"x": x}

    gate = routing.Top1Gate(DIM, EXPERTS, use_fp32=True, capacity_factor=1000.0, use_xmoe=True)
    l_aux, combine_sec, _, _ = gate(x)
    golden |= {
        "xmoe.wg": gate.wg.detach(),
        "xmoe.wg_reduction": gate.wg_reduction.weight.detach(),
        "xmoe.combine": combine_sec.sum(2).detach(),
        "xmoe.l_aux": l_aux.detach(),
    }

    weight = torch.randn(EXPERTS, DIM) / DIM**0.5
    weight[0] += 0.4 * x.mean(0) / x.mean(0).norm() ** 2  # one expert is popular, so that something is dropped
    golden["top2.wg"] = weight
    for policy, prioritised in (("position", False), ("priority", True)):
        l_aux, combine_sec, _, _ = routing.top2gating(
            x @ weight.t(),
            use_fp32=True,
            second_expert_policy="all",
            normalize_gate_prob_before_dropping=True,
            batch_prioritized_routing=prioritised,
        )
        golden |= {f"top2.{policy}.combine": combine_sec.sum(2), f"top2.{policy}.l_aux": l_aux}
    save_file({k: v.contiguous() for k, v in golden.items()}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("torchscale_gates.safetensors"))
