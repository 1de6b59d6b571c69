"""What a run of pretraining or of a language model costs, put together.

Arithmetic alone: no module is built and nothing is allocated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mm_mhmoe.analysis.arithmetic import Arithmetic
from mm_mhmoe.analysis.cost import StepFlops, TokenFlops, recomputed_flops, step_flops, token_flops
from mm_mhmoe.analysis.memory import KeptBytes, kept_bytes
from mm_mhmoe.analysis.mesh import DeviceMemory, Mesh, device_memory, local_parameters
from mm_mhmoe.analysis.parameters import Parameters, count_parameters
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.sizing import Solution

GROUPED_MULTIPLE = 8  # of bf16 numbers, the 16 bytes that rows of grouped_mm must be a multiple of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run as `make_plan` sees it.

    Args:
        target: what hidden patches are predicted as; None: a language model.
        parameters: of the encoder and the heads of pretraining; a language model's head is its token table.
        token: forward FLOPs of one token of a pair or of a sequence, in the blocks.
        step: FLOPs of one device's step.
        recomputed: those that activation checkpointing adds to it.
        kept: bytes that one device's step keeps for its backward pass.
        memory: bytes on one device.
        against_dense: the sparse layer beside the dense FFN; None for a dense encoder.
        against_moe: the sparse layer beside a top-1 MoE of as many experts, each as large as the dense FFN.
    """

    config: EncoderConfig
    workload: Workload
    mesh: Mesh
    arithmetic: Arithmetic
    target: PatchTarget | None
    parameters: Parameters
    token: TokenFlops
    step: StepFlops
    recomputed: int
    kept: KeptBytes
    memory: DeviceMemory
    against_dense: Solution | None
    against_moe: Solution | None

    @property
    def flops(self) -> int:
        """Of a step on all devices, with what is computed again."""
        return self.mesh.devices * (self.step.training + self.recomputed)

    @property
    def warnings(self) -> list[str]:
        """What would stop the run or make it slow."""
        size = None if self.against_dense is None else self.against_dense.size
        if size is None or not self.arithmetic.grouped:
            return []
        near = max(1, round(size.hidden / GROUPED_MULTIPLE)) * GROUPED_MULTIPLE
        sizes = {
            f"hidden size of an expert is {size.hidden}": (size.hidden, f"parity none with hidden_dim {near}"),
            f"width of a (sub-)token is {size.width}": (size.width, "another number of heads"),
        }
        return [
            f"the {name}, no multiple of {GROUPED_MULTIPLE}: grouped products in bf16 on CUDA refuse it; use {remedy}"
            for name, (value, remedy) in sizes.items()
            if value % GROUPED_MULTIPLE
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "encoder": self.config.to_dict(),
            "workload": asdict(self.workload),
            "image_target": None if self.target is None else asdict(self.target),
            "mesh": {**asdict(self.mesh), "devices": self.mesh.devices},
            "arithmetic": asdict(self.arithmetic),
            "parameters": {
                **self.parameters.by_part(),
                "total": self.parameters.total,
                "active": self.parameters.active,
                "per_device": local_parameters(self.parameters, self.mesh),
            },
            "flops_per_token": {**asdict(self.token), "total": self.token.total},
            "flops_per_step_and_device": {
                **asdict(self.step),
                "forward": self.step.total,
                "training": self.step.training,
                "recomputed": self.recomputed,
            },
            "flops_per_step": self.flops,
            "tokens_per_step_and_device": self.workload.tokens(self.config),
            "activation_bytes": {**asdict(self.kept), "total": self.kept.total},
            "bytes_per_device": {**asdict(self.memory), "total": self.memory.total},
            "sparse_layer": None if self.against_dense is None else self._sparse_layer(),
            "warnings": self.warnings,
        }

    def _sparse_layer(self) -> dict[str, Any]:
        assert self.against_dense is not None and self.against_moe is not None
        beside = {"dense": self.against_dense, "moe": self.against_moe}
        return {
            "parity": self.config.moe.parity,
            "size": asdict(self.against_dense.size),
            "mismatch": {
                name: {"parameters": found.parameter_mismatch, "flops": found.flop_mismatch}
                for name, found in beside.items()
            },
        }


def make_plan(
    config: EncoderConfig,
    workload: Workload,
    *,
    mesh: Mesh = Mesh(),  # noqa: B008  (frozen)
    arithmetic: Arithmetic,
    target: PatchTarget | None,
) -> Plan:
    """Raises ValueError when the mesh does not fit the encoder, or the encoder a language model."""
    mesh.check(config)
    if bool(workload.sequences) == config.pictures:
        raise ValueError(
            f"encoder.pictures={str(config.pictures).lower()}, but a step has {workload.sequences} sequences of a "
            "language model; plan one, which takes false, by --run_config FILE of mm-mhmoe lm"
        )
    embed_dim = workload.embed_dim if workload.contrastive_loss else None
    parameters = count_parameters(config, target.outputs if target else None, embed_dim=embed_dim)
    kept = kept_bytes(config, workload, arithmetic, target, ep=mesh.ep, ranks=mesh.devices)
    against_dense = against_moe = None
    if config.num_sparse:
        size, parity = config.sparse_size, config.moe.parity
        against_dense = Solution(parity=parity, size=size, reference=config.dense_size)
        against_moe = Solution(parity=parity, size=size, reference=config.moe_reference)
    return Plan(
        config=config,
        workload=workload,
        mesh=mesh,
        arithmetic=arithmetic,
        target=target,
        parameters=parameters,
        token=token_flops(config, (1 + config.vision.num_patches) * config.pictures + config.text.max_length),
        step=step_flops(config, workload, target.outputs if target else 0, ranks=mesh.devices),
        recomputed=recomputed_flops(config, workload) if arithmetic.activation_checkpointing == "blocks" else 0,
        kept=kept,
        memory=device_memory(parameters, mesh, kept.total),
        against_dense=against_dense,
        against_moe=against_moe,
    )
