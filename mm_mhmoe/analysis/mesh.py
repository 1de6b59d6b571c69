"""How devices divide a model, and what each of them holds between steps."""

from __future__ import annotations

from dataclasses import dataclass

from mm_mhmoe.analysis.parameters import Parameters
from mm_mhmoe.config import EncoderConfig

FP32 = 4


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """dp x fsdp x ep devices. Each of them reads its own part of a batch, along all three axes.

    Args:
        dp: copies of everything.
        fsdp: devices over which every parameter, its gradient and its optimiser state are divided (FSDP).
        ep: devices over which the experts are divided; everything else is there on each of them.
    """

    dp: int = 1
    fsdp: int = 1
    ep: int = 1

    def __post_init__(self) -> None:
        for name in ("dp", "fsdp", "ep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be 1 or more")

    @property
    def devices(self) -> int:
        return self.dp * self.fsdp * self.ep

    def check(self, config: EncoderConfig) -> None:
        """Raises ValueError when the experts cannot be divided evenly."""
        if self.ep == 1:
            return
        if config.ffn == "dense":
            raise ValueError(f"ep={self.ep}, but encoder.ffn=dense has no experts to divide; use fsdp or dp instead")
        experts = config.moe.num_experts
        if experts % self.ep:
            fitting = [n for n in range(1, experts + 1) if experts % n == 0]
            raise ValueError(
                f"moe.num_experts={experts} cannot be divided over ep={self.ep} devices; use an ep out of "
                f"{', '.join(map(str, fitting))}"
            )


def mesh_of(devices: int | None, dp: int | None, fsdp: int, ep: int) -> Mesh:
    """A mesh from its axes, or of a number of devices, of which dp takes what fsdp and ep leave.

    Raises ValueError when the axes do not multiply to the number of devices.
    """
    if devices is None:
        return Mesh(dp=1 if dp is None else dp, fsdp=fsdp, ep=ep)
    rest = Mesh(fsdp=fsdp, ep=ep).devices
    if devices < 1 or devices % rest:
        raise ValueError(f"devices={devices} is no multiple of fsdp={fsdp} x ep={ep} = {rest}; change one of the three")
    if dp is not None and dp * rest != devices:
        raise ValueError(
            f"dp={dp} x fsdp={fsdp} x ep={ep} is {dp * rest}, not devices={devices}; leave dp out, and it becomes "
            f"{devices // rest}"
        )
    return Mesh(dp=devices // rest, fsdp=fsdp, ep=ep)


def local_parameters(parameters: Parameters, mesh: Mesh) -> int:
    """Parameters on one device, rounded up."""
    others = parameters.total - parameters.experts
    return -(-others // mesh.fsdp) - (-parameters.experts // (mesh.ep * mesh.fsdp))


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Bytes on one device. Parameters, gradients and AdamW's two moments are fp32, also in mixed precision."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations


def device_memory(parameters: Parameters, mesh: Mesh, activations: int) -> DeviceMemory:
    held = FP32 * local_parameters(parameters, mesh)
    return DeviceMemory(parameters=held, gradients=held, optimizer=2 * held, activations=activations)
