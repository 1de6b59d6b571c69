"""Truth: the plan that analysis makes of the same options; the presets; the sizes of arXiv 2411.16205."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from mm_mhmoe.analysis.arithmetic import Arithmetic
from mm_mhmoe.analysis.cost import token_flops
from mm_mhmoe.analysis.mesh import Mesh
from mm_mhmoe.analysis.plan import make_plan
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.commands.lm import lm
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.plan import resized
from mm_mhmoe.commands.plan_tables import amount
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.config import PRESETS, EncoderConfig, MoEConfig
from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe.models.teachers.hog import HOGTeacher
from mm_mhmoe.objectives.picture_targets import PixelTarget


def test_json_is_the_plan_of_the_options(call, tmp_path: Path) -> None:
    file = tmp_path / "made" / "plan.json"
    words = "--preset small --encoder.moe.num_experts 16 --encoder.moe.parity params --devices 8 --ep 4 --fsdp 2"
    code, out, _ = call("plan", *words.split(), "--batch_texts", 0, "--precision", "32-true", "--json", file)
    assert code == 0
    encoder = replace(PRESETS["small"], moe=MoEConfig(num_experts=16, parity="params"))
    expected = make_plan(
        encoder,
        Workload(batch_images=32, batch_texts=0, batch_pairs=32),
        mesh=Mesh(dp=1, fsdp=2, ep=4),
        arithmetic=Arithmetic(precision="32-true", device="cuda"),
        target=PatchTarget(outputs=8192),
    )
    assert json.loads(file.read_text()) == json.loads(json.dumps(expected.to_dict()))
    for number in (expected.parameters.total, expected.step.training, expected.parameters.active):
        assert amount(number) in out
    assert amount(expected.memory.total, "B") in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_run_can_be_planned_from_its_configuration(call, tmp_path: Path) -> None:
    file, run = tmp_path / "plan.json", config_path("demo/pretrain.yaml")
    code, out, _ = call("plan", "--run_config", run, "--device", "cpu", "--num_codes", 64, "--json", file)
    assert code == 0
    arguments, values = configured(pretrain, run), json.loads(file.read_text())
    assert EncoderConfig.from_dict(values["encoder"]) == arguments["encoder"]
    assert values["workload"] == {name: arguments.get(name, 0) for name in Workload.__dataclass_fields__}
    assert values["workload"]["cls_loss"] is True and values["arithmetic"]["device"] == "cpu"
    assert "{batch_images} pictures, {batch_texts} texts, {batch_pairs} pairs".format(**arguments) in out


def test_a_language_model_can_be_planned_from_its_configuration(call, tmp_path: Path) -> None:
    """Its token table is its head: the parameters are those of the model itself."""
    file, run = tmp_path / "plan.json", config_path("pretrain/lm_english_tiny.yaml")
    code, out, _ = call("plan", "--run_config", run, "--device", "cpu", "--precision", "32-true", "--json", file)
    assert code == 0 and "16 sequences; 2,048 tokens" in out
    arguments, values = configured(lm, run), json.loads(file.read_text())
    assert EncoderConfig.from_dict(values["encoder"]) == arguments["encoder"] and values["image_target"] is None
    assert values["workload"]["sequences"] == arguments["batch_size"] and values["tokens_per_step_and_device"] == 2048
    assert values["parameters"]["total"] == sum(p.numel() for p in LanguageModel(arguments["encoder"]).parameters())
    assert values["flops_per_token"] == {
        **asdict(token_flops(arguments["encoder"], 128)),
        "total": token_flops(arguments["encoder"], 128).total,
    }


@pytest.mark.parametrize("kind", ["pixels", "features"])
def test_targets_and_checkpointing_of_a_run(call, tmp_path: Path, kind: str) -> None:
    """Widths are those of the targets that a run builds."""
    target = PatchTarget(outputs=PixelTarget(16).outputs, loss="mse")
    values = yaml.safe_load(config_path("demo/pretrain.yaml").read_text())
    values |= {"image_target": kind, "run": {"activation_checkpointing": "blocks"}}
    if kind == "features":
        target = PatchTarget(outputs=HOGTeacher(16).dim, loss="cosine")
        values["teacher"] = "hog"
    run, file = tmp_path / "run.yaml", tmp_path / "plan.json"
    run.write_text(yaml.safe_dump(values))
    assert call("plan", "--run_config", run, "--json", file)[0] == 0
    arguments = configured(pretrain, run)
    expected = make_plan(
        arguments["encoder"],
        Workload(**{name: arguments.get(name, 0) for name in Workload.__dataclass_fields__}),
        arithmetic=Arithmetic(precision="bf16-mixed", device="cuda", activation_checkpointing="blocks"),
        target=target,
    )
    assert json.loads(file.read_text()) == json.loads(json.dumps(expected.to_dict()))


def test_options_of_targets_and_checkpointing(call, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    words = "--image_target features --teacher timm:NAME --teacher_dim 7 --feature_loss smooth_l1"
    code, out, _ = call("plan", *words.split(), "--activation_checkpointing", "blocks", "--json", file)
    values = json.loads(file.read_text())
    assert code == 0 and values["image_target"] == {"outputs": 7, "loss": "smooth_l1"}
    step = values["flops_per_step_and_device"]
    assert values["flops_per_step"] == step["training"] + step["recomputed"] and step["recomputed"] > 0
    for told in (amount(step["recomputed"]), amount(values["activation_bytes"]["one_block"], "B")):
        assert told in out


def test_a_preset_replaces_what_it_changes_and_keeps_the_rest() -> None:
    moe = MoEConfig(num_experts=32)
    for name in PRESETS:
        assert resized(EncoderConfig(), name) == PRESETS[name]  # type: ignore[arg-type]
    large = resized(EncoderConfig(ffn="moe", moe=moe, sub_ln=False), "large")
    assert (large.dim, large.depth, large.ffn, large.moe, large.sub_ln) == (1024, 24, "moe", moe, False)
    with pytest.raises(ValueError, match=r"preset=large sets encoder.depth=24, but encoder.depth=30 .* leave one"):
        resized(EncoderConfig(depth=30), "large")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--ep 3", ["moe.num_experts=8", "ep=3", "1, 2, 4, 8"]),
        ("--devices 10 --fsdp 4", ["devices=10", "fsdp=4"]),
        ("--batch_images 0 --batch_texts 0 --batch_pairs 0", ["batch_images", "all 0"]),
        ("--preset base --run_config x.yaml", ["preset=base", "run_config=x.yaml"]),
        ("--encoder.pictures false", ["encoder.pictures=false", "0 sequences", "--run_config"]),
        ("--precision 16-mixed --device cpu", ["16-mixed", "32-true"]),
        ("--image_target features --teacher timm:NAME", ["teacher=timm:NAME", "teacher_dim"]),
        ("--teacher hog", ["teacher=hog", "image_target=codes", "leave them out"]),
        ("--num_codes 0", ["0 outputs"]),
    ],
)
def test_errors_are_one_sentence(call, words: str, parts: list[str]) -> None:
    code, out, err = call("plan", *words.split())
    assert code == 1 and out == ""
    assert len(err.strip().splitlines()) == 1
    for part in parts:
        assert part in err


def test_parity_solves_the_follow_up_papers_sizes(call, tmp_path: Path) -> None:
    file = tmp_path / "solution.json"
    words = "--reference_hidden 2048 --reference_experts 8 --reference_activation swiglu --activation swiglu"
    words += " --heads 3 --top_k 3 --expert_multiple 8"
    code, out, _ = call("parity", *words.split(), "--json", file)
    assert code == 0 and "96 experts 256 -> 512 (SwiGLU), top-3" in out and "+3.12%" in out
    values = json.loads(file.read_text())
    assert (values["size"]["hidden"], values["size"]["experts"]) == (512, 96)
    assert values["mismatch"] == {"parameters": 1 / 32, "flops": 0}
    assert values["router"]["parameters"] == 96 * 256
    assert max(map(len, out.splitlines())) <= 80


def test_parity_none_compares_a_size_as_given(call) -> None:
    """4 heads, 8 experts of 63/64 x 4 x 3072: 67 d^2 FLOPs beside 16 d^2 (arXiv 2411.16205, section 2.2)."""
    code, out, _ = call("parity", "--reference_hidden", 3072, "--parity", "none", "--hidden", 12096, "--top_k", 1)
    assert code == 0 and f"x {67 / 16:.3g}" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--reference_hidden 3072 --hidden 5", "hidden=5 with parity=flops"),
        ("--reference_hidden 3072 --parity none", "hidden=0 with parity=none"),
        ("--reference_hidden 0", "reference_hidden=0"),
        ("--reference_hidden 768", "parity=flops"),
        ("--reference_hidden 3072 --heads 5", "heads=5"),
    ],
)
def test_parity_errors(call, words: str, named: str) -> None:
    code, _, err = call("parity", *words.split())
    assert code == 1 and named in err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1234, "1.23 k"),
        (1_234_567, "1.23 M"),
        (123_456, "123 k"),
        (5e15, "5 P"),
        (2e18, "2,000 P"),
    ],
)
def test_amount(value: float, text: str) -> None:
    assert amount(value) == text
    assert amount(value, "B").endswith("B")
