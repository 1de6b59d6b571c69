"""How a device computes: it decides what a step keeps for its backward pass, and how wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Device = Literal["cuda", "cpu"]
Precision = Literal["bf16-mixed", "16-mixed", "32-true"]
Checkpointing = Literal["none", "blocks"]

FP32, INDEX = 4, 8
STATISTICS = 2 * FP32  # a LayerNorm keeps mean and deviation of each row


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Precision, device, and whether blocks are computed again in the backward pass (run.activation_checkpointing)."""

    precision: Precision
    device: Device
    activation_checkpointing: Checkpointing = "none"

    def __post_init__(self) -> None:
        if self.device == "cpu" and self.precision == "16-mixed":
            raise ValueError("precision=16-mixed is for cuda; on a cpu use bf16-mixed or 32-true")
        if self.activation_checkpointing not in get_args(Checkpointing):
            raise ValueError(f"activation_checkpointing={self.activation_checkpointing} must be none or blocks")

    @property
    def width(self) -> int:
        """Bytes of a number that products are computed in."""
        return FP32 if self.precision == "32-true" else 2

    @property
    def copy_width(self) -> int:
        """Bytes of a number in autocast's copies of weights; there are none in fp32."""
        return 0 if self.width == FP32 else self.width

    @property
    def norm_width(self) -> int:
        """Bytes of what a LayerNorm inside a layer reads: autocast on CUDA computes it in fp32."""
        return FP32 if self.device == "cuda" else self.width

    @property
    def is_cpu_bf16(self) -> bool:
        return self.device == "cpu" and self.precision == "bf16-mixed"

    @property
    def grouped(self) -> bool:
        """Whether nn.Experts computes all experts in one grouped product."""
        return self.device == "cuda" and self.precision == "bf16-mixed"
