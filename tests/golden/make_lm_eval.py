"""What lm-eval's own model of Hugging Face's decoders says: tests/golden/lm_eval.json.

The project depends neither on transformers nor, without an extra, on lm_eval. In a throw-away environment:

    pip install torch==2.14.1 safetensors transformers==5.24.0 lm_eval[hf]==0.4.13
    python tests/golden/make_lm_eval.py

The model is the LlamaForCausalLM of decoders.safetensors; its tokenizer has a token a word, from w5 to w39, and puts
the begin token before a text. HFLM answers made-up requests: continuations, whole texts, and texts to be gone on with.
Its max_length counts the tokens that go in: 15 where LENGTH tokens are judged but for the first, 16 where none is.
"""

import json
import random
from pathlib import Path

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from make_decoders import decoders
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

HERE, LENGTH = Path(__file__).parent, 16
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def llama() -> torch.nn.Module:
    model = decoders()["llama"]
    weights = load_file(HERE / "decoders.safetensors")
    mine = {name.removeprefix("llama.weight."): value for name, value in weights.items()}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(mine[name])
    return model.eval()


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate([*SPECIAL, *(f"w{n}" for n in range(5, 40))])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def asked(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=one, idx=n) for n, one in enumerate(arguments)]


def main() -> None:
    rng, model, words = random.Random(0), llama(), tokenizer()
    text = lambda count: " ".join(f"w{rng.randrange(5, 40)}" for _ in range(count))  # noqa: E731
    pairs = [("", " " + text(1)), ("", text(5)), (text(3), " " + text(2)), (text(4) + "  ", text(3))]
    pairs.append(("w5", " w13 w13"))  # what it writes behind w5 itself
    pairs += [(text(rng.randrange(1, 40)), " " + text(rng.randrange(1, 15))) for _ in range(12)]
    texts = [(text(count),) for count in (1, 5, 14, 15, 16, 17, 30, 31, 44)]
    before = [text(count) for count in (1, 3, 8, 30)]
    with torch.no_grad():
        found = HFLM(model, tokenizer=words, max_length=LENGTH - 1, add_bos_token=True, batch_size=1)
        # whose rolling texts would begin with two begin tokens, were one put before every text
        rolling = HFLM(model, tokenizer=words, max_length=LENGTH - 1, add_bos_token=False, batch_size=1)
        free = HFLM(model, tokenizer=words, max_length=LENGTH, add_bos_token=True, batch_size=1)
        greedy = [(context, {"until": ["w5 "], "max_gen_toks": 8}) for context in before]
        golden = {
            "loglikelihood": told(pairs, found.loglikelihood(asked("loglikelihood", pairs))),
            "loglikelihood_rolling": told(texts, rolling.loglikelihood_rolling(asked("loglikelihood_rolling", texts))),
            "generate_until": told(greedy, free.generate_until(asked("generate_until", greedy))),
        }
    (HERE / "lm_eval.json").write_text(json.dumps(golden, indent=1) + "\n")


def told(arguments: list[tuple], answers: list) -> list[dict]:
    return [{"arguments": one, "answer": answer} for one, answer in zip(arguments, answers, strict=True)]


if __name__ == "__main__":
    main()
