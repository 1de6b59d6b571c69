"""Golden values of Hugging Face's decoders: tests/golden/decoders.safetensors.

The project does not depend on transformers. In a throw-away environment:

    pip install torch==2.14.1 safetensors transformers==5.24.0
    python tests/golden/make_decoders.py

LlamaForCausalLM (rotary positions, RMSNorm, SwiGLU, no biases), GPT2LMHeadModel (learned positions, LayerNorm, GELU
with erf, biases) and MixtralForCausalLM (as Llama, with top-2 softmax experts in every layer), each of two layers in
fp32 with random weights and tied embeddings. Of each: the logits of two rows at once, the same written token by token
with its cache of keys and values, and the gradient of a random pull on the logits at the token table.
"""

from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

BATCH, LENGTH, VOCAB, DIM, HEADS, DEPTH, HIDDEN, EXPERTS = 2, 11, 40, 16, 2, 2, 24, 4


def decoders() -> dict[str, torch.nn.Module]:
    shared = dict(
        vocab_size=VOCAB,
        hidden_size=DIM,
        intermediate_size=HIDDEN,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        max_position_embeddings=64,
    )
    llama = transformers.LlamaConfig(**shared)
    mixtral = transformers.MixtralConfig(**shared, num_local_experts=EXPERTS, num_experts_per_tok=2, hidden_act="silu")
    mixtral._experts_implementation = "eager"
    gpt2 = transformers.GPT2Config(
        vocab_size=VOCAB,
        n_positions=16,
        n_embd=DIM,
        n_layer=DEPTH,
        n_head=HEADS,
        n_inner=HIDDEN,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return {
        "llama": transformers.LlamaForCausalLM(llama),
        "gpt2": transformers.GPT2LMHeadModel(gpt2),
        "mixtral": transformers.MixtralForCausalLM(mixtral),
    }


def written(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Logits token by token, from the model's cache."""
    cache, parts = None, []
    for place in range(ids.shape[1]):
        output = model(ids[:, place : place + 1], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    return torch.cat(parts, dim=1)


def main(out: Path) -> None:
    torch.manual_seed(0)
    ids = torch.randint(VOCAB, (BATCH, LENGTH))
    golden = {"ids": ids}
    for name, model in decoders().items():
        for weight in model.parameters():
            torch.nn.init.normal_(weight, mean=1.0 if weight.ndim == 1 else 0.0, std=0.3)
        model.eval()
        table = model.get_input_embeddings().weight
        logits = model(ids).logits
        pull = torch.randn_like(logits)
        (logits * pull).sum().backward()
        golden |= {f"{name}.logits": logits, f"{name}.pull": pull, f"{name}.grad": table.grad}
        with torch.no_grad():
            golden[f"{name}.written"] = written(model, ids)
        golden |= {f"{name}.weight.{key}": value for key, value in model.named_parameters()}
    golden = {name: value.detach().clone().contiguous() for name, value in golden.items()}
    save_file(golden, out, metadata={"transformers": transformers.__version__, "torch": torch.__version__})


if __name__ == "__main__":
    main(Path(__file__).with_name("decoders.safetensors"))
