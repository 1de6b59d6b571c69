"""Truth: what FACTS of the papers say (sizes, masks, optimiser), and `plan` for the cost that a file opens with."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mm_mhmoe.analysis.arithmetic import Arithmetic
from mm_mhmoe.analysis.cost import step_flops
from mm_mhmoe.analysis.memory import kept_bytes
from mm_mhmoe.analysis.mesh import Mesh
from mm_mhmoe.analysis.parameters import count_parameters
from mm_mhmoe.analysis.plan import make_plan
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.commands.finetune import retrieval
from mm_mhmoe.commands.lm import lm
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.plan_tables import amount
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.sizing import FFNSize, solve

FOLDER = Path(__file__).parents[2] / "configs" / "pretrain"
PAPER = {
    "beit3_base_paper": 6144,
    "mhmoe_paper_base_8e": 512,
    "mhmoe_paper_base_32e": 512,
    "mhmoe_base_parity_flops": 6144,
}
# Device, precision and visual codes that the cost of a small configuration is told for.
SMALL = {
    **dict.fromkeys(("mhmoe_small_1gpu", "dense_small_1gpu"), ("cuda", "bf16-mixed", 8192)),
    **dict.fromkeys(("mhmoe_tiny_cpu", "dense_tiny_cpu"), ("cpu", "32-true", 512)),
}
STREAMS = ("batch_images", "batch_texts", "batch_pairs")


@pytest.fixture(params=PAPER)
def named(request):
    path = FOLDER / f"{request.param}.yaml"
    return request.param, path.read_text(), configured(pretrain, path)


def test_the_published_details(named) -> None:
    name, _, values = named
    encoder, optim, run = values["encoder"], values["optim"], values["run"]
    assert (encoder.dim, encoder.depth, encoder.num_heads, encoder.ffn_dim) == (768, 12, 12, 3072)
    assert encoder.multiway and encoder.sub_ln and encoder.norm_eps == 1e-5 and encoder.drop_path == 0.1
    assert (encoder.vision.image_size, encoder.vision.patch_size) == (224, 16)
    assert (encoder.text.vocab_size, encoder.text.max_length, encoder.text.positions) == (64010, 64, 1024 - 2)
    masks = [values[k] for k in ("image_mask", "text_mask", "pair_image_mask", "pair_text_mask")]
    assert masks == [0.4, 0.15, 0.4, 0.5] and not values["cls_loss"]
    assert (optim.beta1, optim.beta2, optim.weight_decay, optim.warmup_steps) == (0.9, 0.98, 0.05, 10_000)
    assert optim.lr == (2.8e-3 if "mhmoe_paper" in name else 1e-3)
    rows = sum(values[k] for k in STREAMS)
    assert rows * run.devices * run.accumulate == PAPER[name]


def check_told(content: str, made: dict[str, Any], command: str) -> None:
    """The header names the command, and what it prints."""
    told = re.search(r"# +(.+) parameters, (.+) on all devices, (.+) on each\n", content)
    assert told is not None and command in content
    assert told.groups() == (
        amount(made["parameters"]["total"]),
        amount(made["flops_per_step"], "FLOPs"),
        amount(made["bytes_per_device"]["total"], "B"),
    )


def test_the_cost_that_is_told(named) -> None:
    name, content, values = named
    made = make_plan(
        values["encoder"],
        Workload(**{k: values[k] for k in (*STREAMS, "image_mask", "text_mask", "pair_image_mask", "pair_text_mask")}),
        mesh=Mesh(dp=8),
        arithmetic=Arithmetic(precision="bf16-mixed", device="cuda"),
        target=PatchTarget(outputs=8192),
    ).to_dict()
    check_told(content, made, f"--run_config configs/pretrain/{name}.yaml --devices 8")
    assert made["bytes_per_device"]["total"] < 80e9, "more than the hardware that is named"


@pytest.mark.parametrize("language", ["english", "multilingual"])
def test_language_models(language: str) -> None:
    """Batch, optimiser and experts of arXiv 2404.15045, and the cost that the file tells."""
    path = FOLDER / f"lm_{language}_paper.yaml"
    values = configured(lm, path)
    encoder, optim, run = values["encoder"], values["optim"], values["run"]
    assert (encoder.dim, encoder.depth, encoder.num_heads) == (768, 12, 12)
    assert (encoder.moe.num_experts, encoder.moe.heads, encoder.moe.balance_loss_weight) == (8, 4, 1e-2)
    assert values["batch_size"] * run.devices * run.accumulate == 256
    assert (optim.lr, optim.schedule, optim.warmup_steps, optim.weight_decay) == (5e-4, "linear", 10_000, 0.01)
    made = make_plan(
        encoder,
        Workload(sequences=values["batch_size"]),
        mesh=Mesh(dp=8),
        arithmetic=Arithmetic(precision="bf16-mixed", device="cuda"),
        target=None,
    ).to_dict()
    check_told(path.read_text(), made, f"--run_config configs/pretrain/{path.name} --devices 8")
    assert made["bytes_per_device"]["total"] < 40e9, "more than the hardware that is named"


@pytest.mark.parametrize("name", SMALL)
def test_the_cost_that_a_small_one_tells(name: str) -> None:
    device, precision, codes = SMALL[name]
    path = FOLDER / f"{name}.yaml"
    values, content = configured(pretrain, path), path.read_text()
    made = make_plan(
        values["encoder"],
        Workload(**{k: values[k] for k in (*STREAMS, "image_mask", "text_mask", "pair_image_mask", "pair_text_mask")}),
        mesh=Mesh(dp=1),
        arithmetic=Arithmetic(precision=precision, device=device),
        target=PatchTarget(outputs=codes),
    ).to_dict()
    check_told(content, made, f"--run_config configs/pretrain/{name}.yaml --devices 1")
    assert (values["run"].precision, values["run"].accelerator) == (precision, "gpu" if device == "cuda" else "cpu")


def test_contrastive_tuning() -> None:
    """Appendix A of BEiT-3's paper; the parameters are also those that BEiT-3's README gives its BEiT3-base-itc. The
    encoder sees pictures and texts as two streams, as in a plan without its masked heads."""
    path = FOLDER / "beit3_base_contrastive.yaml"
    values = configured(retrieval, path)
    encoder, optim, run, pairs = values["encoder"], values["optim"], values["run"], values["batch_size"]
    processes = run.devices * run.num_nodes
    assert pairs * processes == 16_384 and values["steps"] == round(5 * 21e6 / 16_384)
    assert (optim.lr, optim.warmup_steps, optim.weight_decay) == (3e-5, round(21e6 / 16_384), 0.05)
    assert (optim.beta1, optim.beta2, optim.layer_decay, encoder.drop_path) == (0.9, 0.999, 0.95, 0.3)
    assert values["embed_dim"] == encoder.dim and encoder.vision.image_size == 224
    work = Workload(batch_images=pairs, batch_texts=pairs, image_mask=0.0)
    flops = step_flops(encoder, work, 8192)
    parameters = count_parameters(encoder).total + 2 * encoder.dim * values["embed_dim"] + 1
    kept = kept_bytes(encoder, work, Arithmetic(precision="bf16-mixed", device="cuda")).total
    check_told(
        path.read_text(),
        {
            "parameters": {"total": parameters},
            "flops_per_step": processes * (flops.training - 3 * flops.task_heads),
            "bytes_per_device": {"total": 16 * parameters + kept},  # weights, gradients and two moments in fp32
        },
        "mm-mhmoe plan",
    )
    assert round(parameters / 1e6) == 222


@pytest.mark.parametrize("size", ["small_1gpu", "tiny_cpu"])
def test_twins_differ_in_their_ffns_only(size: str) -> None:
    """And cost a token the same: 2 D F products in a dense FFN, as many in MH-MoE under parity=flops."""
    sparse, dense = (configured(pretrain, FOLDER / f"{kind}_{size}.yaml") for kind in ("mhmoe", "dense"))
    ours, theirs = sparse.pop("encoder"), dense.pop("encoder")
    sparse.pop("out"), dense.pop("out")
    assert sparse == dense and replace(ours, ffn="dense", moe=theirs.moe) == theirs
    assert ours.sparse_size.macs == 2 * ours.dim * ours.ffn_dim


@pytest.mark.parametrize("experts", [8, 32])
def test_the_papers_experts(experts: int) -> None:
    encoder = configured(pretrain, FOLDER / f"mhmoe_paper_base_{experts}e.yaml")["encoder"]
    moe = encoder.moe
    assert (encoder.ffn, moe.num_experts, moe.heads, moe.balance_loss_weight) == ("mh_moe", experts, 4, 1e-2)
    assert (moe.router, moe.router_dim, moe.parity, moe.top_k) == ("xmoe", 16 // 4, "params", 1)


def test_equal_flops_and_parameters() -> None:
    """93 experts are what section 2.3 of arXiv 2411.16205 solves for: the reference is a top-1 MoE of 8 dense FFNs."""
    encoder = configured(pretrain, FOLDER / "mhmoe_base_parity_flops.yaml")["encoder"]
    assert (encoder.moe.heads, encoder.moe.top_k, encoder.moe.parity) == (3, 3, "flops")
    reference = FFNSize(dim=768, hidden=3072, experts=8)
    wanted = FFNSize(dim=768, hidden=0, experts=8, heads=3, top_k=3, projection_layers=1)
    solved = solve(reference, wanted, parity="flops", expert_multiple=1).size
    assert solved == encoder.sparse_size
    assert abs(solved.parameters / reference.parameters - 1) < 0.005 and solved.macs == 2 * 768 * 3072
