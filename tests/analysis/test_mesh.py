"""Truth: division by hand; the shards of a real model's parameters; torch's AdamW."""

from __future__ import annotations

import pytest
import torch

from mm_mhmoe.analysis.mesh import Mesh, device_memory, local_parameters, mesh_of
from mm_mhmoe.analysis.parameters import count_parameters
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder


def test_experts_are_divided_by_ep_and_everything_by_fsdp(config) -> None:
    made = config(moe=MoEConfig(num_experts=8, every=1))
    counted = count_parameters(made)
    experts = sum(p.numel() for n, p in build_encoder(made).named_parameters() if ".experts." in n)
    others = counted.total - experts
    assert local_parameters(counted, Mesh(dp=3)) == counted.total
    assert local_parameters(counted, Mesh(ep=4)) == others + experts // 4
    assert local_parameters(counted, Mesh(dp=2, fsdp=2, ep=8)) == -(-others // 2) + experts // 16
    assert local_parameters(counted, Mesh(fsdp=7)) == -(-others // 7) - (-experts // 7)


def test_memory_between_steps_is_that_of_torchs_adamw(config) -> None:
    made = config()
    encoder = build_encoder(made)
    optimizer = torch.optim.AdamW(encoder.parameters())
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    found = device_memory(count_parameters(made), Mesh(), activations=5)
    bytes_of = lambda tensors: sum(t.numel() * t.element_size() for t in tensors)  # noqa: E731
    # A parameter of no dimension would have moments of none: there is none here.
    assert found.parameters == bytes_of(encoder.parameters())
    assert found.gradients == bytes_of(p.grad for p in encoder.parameters())
    assert found.optimizer == bytes_of(moments)
    assert found.total == found.parameters + found.gradients + found.optimizer + 5


@pytest.mark.parametrize(
    ("given", "mesh"),
    [
        ((None, None, 1, 1), Mesh()),
        ((None, 2, 4, 8), Mesh(dp=2, fsdp=4, ep=8)),
        ((64, None, 4, 8), Mesh(dp=2, fsdp=4, ep=8)),
        ((64, 2, 4, 8), Mesh(dp=2, fsdp=4, ep=8)),
    ],
)
def test_dp_takes_what_is_left(given, mesh) -> None:
    assert mesh_of(*given) == mesh
    assert mesh.devices == (given[0] or (given[1] or 1) * given[2] * given[3])


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda _: Mesh(ep=0), ["ep=0", "1 or more"]),
        (lambda _: mesh_of(60, None, 4, 8), ["devices=60", "fsdp=4", "ep=8", "32"]),
        (lambda _: mesh_of(0, None, 1, 1), ["devices=0"]),
        (lambda _: mesh_of(64, 3, 4, 8), ["dp=3", "96", "devices=64", "becomes 2"]),
        (
            lambda config: Mesh(ep=8).check(config(moe=MoEConfig(num_experts=12))),
            ["moe.num_experts=12", "ep=8", "1, 2, 3, 4, 6, 12"],
        ),
        (lambda config: Mesh(ep=2).check(config(ffn="dense")), ["ep=2", "encoder.ffn=dense", "fsdp or dp"]),
    ],
)
def test_a_mesh_that_does_not_divide_is_refused(config, make, parts: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make(config)
    for part in parts:
        assert part in str(error.value)


def test_a_mesh_without_ep_fits_everything(config) -> None:
    Mesh(dp=3, fsdp=5).check(config(ffn="dense"))
    Mesh(ep=4).check(config(moe=MoEConfig(num_experts=12)))
