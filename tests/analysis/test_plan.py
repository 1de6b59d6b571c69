"""Truth: the functions that a plan puts together, whose own tests compare them with real models; torch's dispatcher
and Python's allocator, which see whether anything was allocated."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mm_mhmoe.analysis.arithmetic import Arithmetic
from mm_mhmoe.analysis.memory import kept_bytes
from mm_mhmoe.analysis.mesh import Mesh
from mm_mhmoe.analysis.plan import Plan, make_plan
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.config import MoEConfig, preset

WORK = Workload(batch_images=32, batch_texts=32, batch_pairs=32)
CUDA = Arithmetic(precision="bf16-mixed", device="cuda")


def large_plan(name: str) -> Plan:
    encoder = preset(name, moe=MoEConfig(num_experts=256, parity="params"))
    return make_plan(encoder, WORK, mesh=Mesh(dp=1, fsdp=8, ep=8), arithmetic=CUDA, target=PatchTarget(outputs=8192))


class Operations(TorchDispatchMode):
    """Lists every operation on tensors, those on the meta device too."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_the_list_of_operations_would_see_a_module() -> None:
    with Operations() as operations:
        torch.nn.Linear(2, 2, device="meta")
    assert operations.seen


@pytest.mark.parametrize("name", ["base", "large"])
def test_planning_256_experts_on_64_devices_allocates_nothing(name: str) -> None:
    """The model would hold gigabytes; a plan is a few objects: no tensor, and less than a quarter of a megabyte."""
    large_plan(name)
    tracemalloc.start()
    try:
        with Operations() as operations:
            made = large_plan(name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert operations.seen == []
    assert peak < 250_000
    assert made.parameters.total > 7e9 and made.mesh.devices == 64


def test_ep_leaves_a_device_its_part_of_the_experts() -> None:
    made = large_plan("base")
    experts = made.parameters.experts
    rest = made.parameters.total - experts
    assert made.memory.parameters == 4 * (-(-rest // 8) + experts // 64)
    assert made.memory.total == 4 * made.memory.parameters + made.kept.total
    assert made.kept == kept_bytes(made.config, WORK, CUDA, PatchTarget(outputs=8192), ep=8)


def test_json_holds_the_same_numbers(config) -> None:
    made = make_plan(
        config(), Workload(batch_pairs=2), mesh=Mesh(dp=2, ep=2), arithmetic=CUDA, target=PatchTarget(outputs=24)
    )
    values = json.loads(json.dumps(made.to_dict()))
    for total, parts in (
        ("total", values["parameters"]),
        ("total", values["flops_per_token"]),
        ("total", values["activation_bytes"]),
        ("total", values["bytes_per_device"]),
    ):
        skipped = {total, "active", "per_device"}
        assert parts[total] == sum(value for name, value in parts.items() if name not in skipped)
    step = values["flops_per_step_and_device"]
    assert step["forward"] == sum(value for name, value in step.items() if name not in ("forward", "training"))
    assert values["flops_per_step"] == 4 * step["training"]
    assert values["tokens_per_step_and_device"] == 2 * 25
    assert values["sparse_layer"]["mismatch"]["dense"]["flops"] == 0


def test_both_references(config) -> None:
    """Equal FLOPs beside the dense FFN under flops, equal parameters beside the MoE under params."""
    flops = make_plan(config(), WORK, arithmetic=CUDA, target=PatchTarget(outputs=24))
    assert flops.against_dense is not None and flops.against_moe is not None
    assert flops.against_dense.flop_mismatch == 0
    # 2 maps of 32 x 32 and 4 experts of 2 x 8 x 48, beside 4 of 2 x 32 x 128
    assert flops.against_moe.parameter_mismatch == (2 * 32**2 + 4 * 2 * 8 * 48) / (4 * 2 * 32 * 128) - 1
    params = make_plan(
        config(moe=MoEConfig(num_experts=4, parity="params")), WORK, arithmetic=CUDA, target=PatchTarget(outputs=24)
    )
    assert params.against_moe is not None and params.against_moe.parameter_mismatch == 0
    dense = make_plan(config(ffn="dense"), WORK, arithmetic=CUDA, target=PatchTarget(outputs=24))
    assert dense.against_dense is None and dense.to_dict()["sparse_layer"] is None


def test_a_size_that_grouped_products_refuse_is_warned_of(config) -> None:
    """torch.nn.functional.grouped_mm wants rows of a multiple of 16 bytes; see that it really refuses the size."""
    odd = config(moe=MoEConfig(num_experts=4, parity="none", hidden_dim=42))
    warnings = make_plan(odd, WORK, arithmetic=CUDA, target=PatchTarget(outputs=24)).warnings
    assert len(warnings) == 1 and "hidden size of an expert is 42" in warnings[0] and "hidden_dim 40" in warnings[0]
    for hidden, refused in ((42, True), (48, False)):
        a, b = torch.zeros(4, 8, dtype=torch.bfloat16), torch.zeros(2, 8, hidden, dtype=torch.bfloat16)
        ends = torch.tensor([2, 4], dtype=torch.int32)
        if refused:
            with pytest.raises(RuntimeError, match="16 bytes"):
                torch.nn.functional.grouped_mm(a, b, offs=ends)
        else:
            torch.nn.functional.grouped_mm(a, b, offs=ends)
    for fine in (Arithmetic(precision="bf16-mixed", device="cpu"), Arithmetic(precision="32-true", device="cuda")):
        assert make_plan(odd, WORK, arithmetic=fine, target=PatchTarget(outputs=24)).warnings == []
    assert make_plan(config(), WORK, arithmetic=CUDA, target=PatchTarget(outputs=24)).warnings == []
