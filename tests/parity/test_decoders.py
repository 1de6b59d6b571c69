"""Truth: LlamaForCausalLM, GPT2LMHeadModel and MixtralForCausalLM of transformers 5.24.0 with random weights.

The golden values were made by tests/golden/make_decoders.py; those of lm-eval's own model of the same Llama by
tests/golden/make_lm_eval.py.
"""

import json
from pathlib import Path

import pytest
import torch
from mm_mhmoe_eval.harness.answers import log_likelihoods, wanted, write
from mm_mhmoe_eval.harness.rows import pair_ids, pair_rows, rolling_rows, text_ids
from safetensors.torch import load_file

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig
from mm_mhmoe.models.tasks.language import LanguageModel

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "decoders.safetensors")
LM_EVAL = json.loads((Path(__file__).parents[1] / "golden" / "lm_eval.json").read_text())
TOKENS = "encoder.text.tokens.weight"

SHARED = {
    "dim": 16,
    "depth": 2,
    "num_heads": 2,
    "ffn_dim": 24,
    "drop_path": 0.0,
    "sub_ln": False,
    "pictures": False,
    "text": TextConfig(vocab_size=40, max_length=16),
}
LLAMA = {"text_positions": "rotary", "norm": "rms", "activation": "swiglu", "bias": False}
EXPERTS = MoEConfig(
    num_experts=4, top_k=2, every=1, activation="swiglu", expert_bias=False, parity="none", hidden_dim=24
)
CONFIGS = {
    "llama": EncoderConfig(**SHARED, **LLAMA, ffn="dense"),
    "gpt2": EncoderConfig(**SHARED, ffn="dense"),
    "mixtral": EncoderConfig(**SHARED, **LLAMA, rotary_base=1e6, ffn="moe", moe=EXPERTS),
}


def theirs(name):
    prefix = f"{name}.weight."
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def from_llama(name):
    """Queries, keys and values are one matrix here; so are the gate and the other half of SwiGLU, in that order."""
    old = theirs(name)
    new = {TOKENS: old["model.embed_tokens.weight"], "encoder.norm.weight": old["model.norm.weight"]}
    for layer in range(2):
        before, after = f"model.layers.{layer}", f"encoder.blocks.{layer}"
        new |= {
            f"{after}.attention.qkv.weight": torch.cat([old[f"{before}.self_attn.{p}_proj.weight"] for p in "qkv"]),
            f"{after}.attention.proj.weight": old[f"{before}.self_attn.o_proj.weight"],
            f"{after}.attention_norm.weight": old[f"{before}.input_layernorm.weight"],
            f"{after}.ffn_norm.weight": old[f"{before}.post_attention_layernorm.weight"],
        }
        mlp = f"{before}.mlp"
        if name == "llama":
            both = [old[f"{mlp}.gate_proj.weight"], old[f"{mlp}.up_proj.weight"]]
            new |= {
                f"{after}.ffn.fc1.weight": torch.cat(both),
                f"{after}.ffn.fc2.weight": old[f"{mlp}.down_proj.weight"],
            }
        else:
            new |= {
                f"{after}.ffn.router.gate.weight": old[f"{mlp}.gate.weight"],
                f"{after}.ffn.experts.w1_EdF": old[f"{mlp}.experts.gate_up_proj"].transpose(1, 2),
                f"{after}.ffn.experts.w2_EFd": old[f"{mlp}.experts.down_proj"].transpose(1, 2),
            }
    return new


def from_gpt2():
    """Their matrices lie (in, out)."""
    old = theirs("gpt2")
    new = {TOKENS: old["transformer.wte.weight"], "encoder.text.positions_LD": old["transformer.wpe.weight"]}
    names = {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.qkv",
        "attn.c_proj": "attention.proj",
        "ln_2": "ffn_norm",
        "mlp.c_fc": "ffn.fc1",
        "mlp.c_proj": "ffn.fc2",
    }
    for part in ("weight", "bias"):
        new[f"encoder.norm.{part}"] = old[f"transformer.ln_f.{part}"]
        for layer in range(2):
            for before, after in names.items():
                value = old[f"transformer.h.{layer}.{before}.{part}"]
                new[f"encoder.blocks.{layer}.{after}.{part}"] = value.t() if value.ndim == 2 else value
    return new


def model_of(name):
    model = LanguageModel(CONFIGS[name])
    model.load_state_dict(from_gpt2() if name == "gpt2" else from_llama(name))
    return model.eval()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_logits_and_gradient(name):
    model, ids = model_of(name), GOLDEN["ids"]
    states, _ = model(Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool)))
    logits = model.head(states)
    torch.testing.assert_close(logits, GOLDEN[f"{name}.logits"], rtol=1e-5, atol=1e-5)
    (logits * GOLDEN[f"{name}.pull"]).sum().backward()
    found = model.encoder.text.tokens.weight.grad
    torch.testing.assert_close(found, GOLDEN[f"{name}.grad"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_same_logits_token_by_token_from_the_cache(name):
    model, cache, parts = model_of(name), None, []
    for ids in GOLDEN["ids"].split(1, dim=1):
        texts = Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool))
        output, cache = model.encoder.decode(ImageTextBatch(texts=texts, causal_text=True), cache)
        parts.append(model.head(output.streams[0].text_BLD))
    torch.testing.assert_close(torch.cat(parts, dim=1), GOLDEN[f"{name}.written"], rtol=1e-5, atol=1e-5)


class Words:
    """A token a word: w5 to w39."""

    def encode_all(self, texts):
        return [[int(word[1:]) for word in text.split()] for text in texts]

    def decode(self, ids):
        return " ".join(f"w{index}" for index in ids if index > 4)

    def __len__(self):
        return 40


HOW = {"batch_size": 4, "device": "cpu"}


def test_the_same_log_likelihoods_of_continuations_as_lm_evals_own_model():
    """Also of contexts that are longer than the model."""
    arguments, answers = zip(*((one["arguments"], one["answer"]) for one in LM_EVAL["loglikelihood"]), strict=True)
    rows = [pair_rows(*pair_ids(Words(), *pair), 16) for pair in arguments]
    found = log_likelihoods(model_of("llama"), rows, **HOW)
    assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in answers], abs=1e-4)
    assert [likeliest for _, likeliest in found] == [likeliest for _, likeliest in answers]
    assert any(likeliest for _, likeliest in answers)


def test_the_same_log_likelihoods_of_whole_texts():
    """Also of texts that are longer than the model."""
    rows = [rolling_rows(text_ids(Words(), *one["arguments"]), 16) for one in LM_EVAL["loglikelihood_rolling"]]
    found = log_likelihoods(model_of("llama"), rows, **HOW)
    answers = [one["answer"] for one in LM_EVAL["loglikelihood_rolling"]]
    assert [nats for nats, _ in found] == pytest.approx(answers, abs=1e-4)


def test_the_same_is_written():
    contexts, settings = zip(*(one["arguments"] for one in LM_EVAL["generate_until"]), strict=True)
    assert len({str(asked) for asked in settings}) == 1
    written = dict(write(model_of("llama"), Words(), contexts, wanted(**settings[0]), **HOW))
    assert [written[n] for n in range(len(contexts))] == [one["answer"] for one in LM_EVAL["generate_until"]]
