"""Truth: a dense FFN that fits through the heads, which must be met exactly; singular vectors; gradients."""

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_ffn
from mm_mhmoe.models.upcycling import to_sparse
from mm_mhmoe.models.upcycling.layers import built_ffn
from mm_mhmoe.models.upcycling.multihead import (
    _RIDGE,
    leading_directions,
    multihead_start,
    synthetic_inputs,
    tag_place,
)
from mm_mhmoe.nn import FeedForward, XMoERouter

DIM, WIDTH, HEADS = 32, 128, 4


@pytest.fixture
def layer(config):
    """A fresh MH-MoE layer in float64."""

    def make(**options):
        values = {"num_experts": 8, "top_k": 2, "heads": HEADS, "every": 2, **options}
        torch.manual_seed(1)
        return build_ffn(config(sub_ln=options.pop("sub_ln", True), moe=MoEConfig(**values)), 1).double().eval()

    return make


def dense_ffn(*, sub_ln: bool = True) -> FeedForward:
    torch.manual_seed(2)
    dense = FeedForward(DIM, WIDTH, sub_ln=sub_ln).double().eval()
    with torch.no_grad():
        for value in dense.parameters():
            value += 0.1 * torch.randn_like(value)
    return dense.requires_grad_(False)


def inputs(rows: int = 512, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x_TD = torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
    return torch.nn.functional.layer_norm(x_TD, (DIM,))


def start(ffn, dense, x_TD, **options) -> None:
    with torch.no_grad():
        multihead_start(ffn, dense, x_TD, **options)


def missed(y_TD: torch.Tensor, wanted_TD: torch.Tensor) -> float:
    """Share of the variance: 1 for the best constant."""
    return float((y_TD - wanted_TD).square().sum() / (wanted_TD - wanted_TD.mean(dim=0)).square().sum())


@torch.no_grad()
def test_a_dense_ffn_that_fits_through_the_heads_is_met_exactly(config) -> None:
    """Hidden units of group i read d directions of their own and write into d directions of their own.

    Two experts a head, top-2: a head's two clones are chosen, and their weights sum to one.
    """
    dense, d, group = dense_ffn(sub_ln=False), DIM // HEADS, WIDTH // HEADS
    for matrix in (dense.fc1.weight, dense.fc2.weight.t()):
        turned_DD = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64)).Q
        for head in range(HEADS):
            directions_dD = turned_DD[head * d : (head + 1) * d]
            rows = slice(head * group, (head + 1) * group)
            matrix[rows] = matrix[rows] @ directions_dD.t() @ directions_dD
    moe = MoEConfig(num_experts=8, top_k=2, heads=HEADS, parity="none", hidden_dim=group)
    ffn = build_ffn(config(sub_ln=False, moe=moe), 1).double().eval()
    start(ffn, dense, inputs())
    x_TD = inputs(seed=4)
    torch.testing.assert_close(ffn(x_TD)[0], dense(x_TD), rtol=0.0, atol=1e-9)


@torch.no_grad()
def test_each_head_goes_to_its_own_experts(layer, router) -> None:
    ffn = layer(**router)
    start(ffn, dense_ffn(), inputs())
    _, routing = ffn(inputs(seed=4))
    head_S = torch.arange(len(routing.experts_SK)) % HEADS
    own_SK = (routing.experts_SK % HEADS == head_S.unsqueeze(1)).double()
    computed_SK = (routing.target_SK < routing.num_experts).double()
    weight = (routing.weights_SK * own_SK * computed_SK).sum() / (routing.weights_SK * computed_SK).sum()
    assert weight > 0.95
    first_S = routing.logits_SE.argmax(dim=1)
    assert (first_S % HEADS == head_S).double().mean() > 0.98
    assert len(first_S.unique()) == 8  # the fresh weights still choose among a head's clones


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"top_k": 1}, {"inner_residual": True}, {"shared_experts": 1}], ids=str)
def test_it_starts_nearer_to_the_dense_ffn_than_random_weights(layer, router, options: dict) -> None:
    dense, x_TD = dense_ffn(), inputs(seed=4)
    fresh, made = layer(**router, **options), layer(**router, **options)
    start(made, dense, inputs(1024))
    wanted_TD = dense(x_TD)
    assert missed(made(x_TD)[0], wanted_TD) < 0.6 < 0.9 < missed(fresh(x_TD)[0], wanted_TD)


@torch.no_grad()
@pytest.mark.parametrize("hidden", [8, 32, 50, 128, 200])
@pytest.mark.parametrize("sub_ln", [True, False])
def test_experts_of_any_width(config, hidden: int, sub_ln: bool) -> None:
    moe = MoEConfig(num_experts=6, heads=HEADS, parity="none", hidden_dim=hidden)
    ffn = build_ffn(config(sub_ln=sub_ln, moe=moe), 1).double().eval()
    dense = dense_ffn(sub_ln=sub_ln)
    start(ffn, dense, inputs(1024))
    assert missed(ffn(inputs(seed=4))[0], dense(inputs(seed=4))) < (0.65 if hidden < WIDTH // HEADS else 0.55)


def test_the_merge_layer_is_the_least_squares_solution(layer) -> None:
    """Its gradient on the inputs it was fitted on is that of the pull towards where it was before."""
    ffn, dense, x_TD = layer(), dense_ffn(), inputs()
    start(ffn, dense, x_TD)
    y_TD, _ = ffn(x_TD)
    loss = (y_TD - dense(x_TD)).square().sum() / 2
    weight_grad, bias_grad = torch.autograd.grad(loss, (ffn.merge.weight, ffn.merge.bias))
    torch.testing.assert_close(bias_grad, torch.zeros_like(bias_grad), rtol=0.0, atol=1e-8)

    with torch.no_grad():
        merge, ffn.merge = ffn.merge, torch.nn.Identity()
        centred_TD = ffn(x_TD)[0] - ffn(x_TD)[0].mean(dim=0)
        ffn.merge = merge
        group = WIDTH // HEADS
        hidden = ffn.moe.experts.w2_EFd.shape[1]
        before = []
        for head in range(HEADS):
            units = slice(head * group, (head + 1) * group)
            scaled = dense.fc2.weight[:, units] * dense.norm.weight[units]
            before.append(torch.linalg.svd(scaled).U[:, : DIM // HEADS])
        strength = _RIDGE * centred_TD.square().sum() / DIM
        for head, directions_Dd in enumerate(before):
            # The sign of a singular vector is free: compare with the one that the experts' second matrix tells.
            ours_hd = ffn.moe.experts.w2_EFd[head]
            units = [(head * group + i) % WIDTH for i in range(hidden)]
            signs_d = (directions_Dd.t() @ dense.fc2.weight[:, units] * ours_hd.t()).sum(dim=1).sign()
            columns = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            moved = merge.weight[:, columns] - directions_Dd * signs_d
            torch.testing.assert_close(weight_grad[:, columns], -strength * moved, rtol=1e-6, atol=1e-8)


def test_leading_directions_are_singular_vectors() -> None:
    torch.manual_seed(0)
    rows_ND = torch.randn(20, 12, dtype=torch.float64)
    found = leading_directions(rows_ND, 5)
    expected = torch.linalg.svd(rows_ND).Vh[:5]
    torch.testing.assert_close((found @ expected.t()).abs(), torch.eye(5, dtype=torch.float64), rtol=0.0, atol=1e-9)
    assert leading_directions(rows_ND[:3], 5).shape == (5, 12)  # fewer rows than directions


def test_tags_are_the_places_that_hold_least() -> None:
    assert [tag_place(head, 8) for head in range(4)] == [7, 6, 5, 4]


@torch.no_grad()
def test_synthetic_inputs_are_what_a_layer_norm_gives() -> None:
    scale_D, bias_D = torch.rand(16, dtype=torch.float64) + 0.5, torch.randn(16, dtype=torch.float64)
    plain = (synthetic_inputs(scale_D, bias_D, eps=1e-5) - bias_D) / scale_D
    torch.testing.assert_close(plain.mean(dim=1), torch.zeros(128, dtype=torch.float64), rtol=0.0, atol=1e-9)
    torch.testing.assert_close(plain.var(dim=1, correction=0), torch.ones(128, dtype=torch.float64), rtol=1e-3, atol=0)


@torch.no_grad()
def test_clones_differ_only_by_noise(layer) -> None:
    plain, noisy = layer(), layer()
    start(plain, dense_ffn(), inputs())
    start(noisy, dense_ffn(), inputs(), noise=0.1)
    w1_EdF = plain.moe.experts.w1_EdF
    assert torch.equal(w1_EdF[0], w1_EdF[4]) and not torch.equal(w1_EdF[0], w1_EdF[1])
    assert not torch.equal(noisy.moe.experts.w1_EdF[0], noisy.moe.experts.w1_EdF[4])


def test_real_inputs_are_used_layer_by_layer(config, weights) -> None:
    """Inputs that lie in few directions, as real ones do: a merge layer fitted on them does better on them."""
    dense = config(ffn="dense")
    before = weights(dense)
    few_rD = torch.linalg.qr(torch.randn(DIM, 6, dtype=torch.float64)).Q.t()
    x_TD, test_TD = (torch.randn(n, 6, dtype=torch.float64) @ few_rD * 2 for n in (800, 200))
    target = config(moe=MoEConfig(num_experts=4, heads=4))
    plain = to_sparse(dense, before, target)[1]
    fitted = to_sparse(dense, before, target, inputs={1: x_TD})[1]
    moved = {name for name in plain if not torch.equal(plain[name], fitted[name])}
    assert {name for name in moved if "router" not in name} == {f"blocks.1.ffn.merge.{p}" for p in ("weight", "bias")}

    def ffn(config, weights):
        part = {k.removeprefix("blocks.1.ffn."): v for k, v in weights.items() if k.startswith("blocks.1.ffn.")}
        return built_ffn(config, 1, part)

    with torch.no_grad():
        wanted = ffn(dense, before)(test_TD)
        assert missed(ffn(target, fitted)(test_TD)[0], wanted) < 0.5 * missed(ffn(target, plain)(test_TD)[0], wanted)


@torch.no_grad()
def test_xmoe_router_keeps_fresh_dimensions_beside_the_tags(layer) -> None:
    ffn = layer(router="xmoe", router_dim=6)
    start(ffn, dense_ffn(), inputs())
    router = ffn.moe.router
    assert isinstance(router, XMoERouter)
    assert torch.equal(router.embeddings_ER[:, :4].argmax(dim=1), torch.arange(8) % 4)
    assert router.embeddings_ER[:, 4:].abs().min() > 0
    # The first routing dimensions of a sub-token are its tags, and nothing else of it.
    x_Sd = torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(router.reduce(x_Sd)[:, :4], x_Sd[:, [tag_place(head, 8) for head in range(4)]])


@torch.no_grad()
def test_a_unit_that_two_heads_hold_counts_half_in_each(layer) -> None:
    group = WIDTH // HEADS
    narrow, wide = (layer(parity="none", hidden_dim=hidden) for hidden in (group, 2 * group))
    for ffn in (narrow, wide):
        start(ffn, dense_ffn(), inputs())
    torch.testing.assert_close(narrow.moe.experts.w2_EFd, 2 * wide.moe.experts.w2_EFd[:, :group])


@torch.no_grad()
def test_a_shared_expert_starts_silent(layer) -> None:
    ffn, dense = layer(shared_experts=1), dense_ffn()
    start(ffn, dense, inputs())
    assert not ffn.moe.shared(torch.randn(5, 8, dtype=torch.float64)).any()
