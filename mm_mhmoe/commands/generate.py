from __future__ import annotations

import torch
from mm_mhmoe_data.language.tokens import document_ids
from mm_mhmoe_data.tokenizer import Tokenizer
from rich.console import Console

from mm_mhmoe.batch import Texts
from mm_mhmoe.models.checkpoints import load, resolve
from mm_mhmoe.models.generation import generate
from mm_mhmoe.models.tasks import LanguageModel


def write(
    model: str,
    prompt: str = "",
    most: int = 64,
    top_p: float | None = 0.9,
    temperature: float = 1.0,
    count: int = 1,
    seed: int = 0,
) -> None:
    """Writes on from a beginning, to the end of its paragraph at most.

    Args:
        model: a language model: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME.
        prompt: the beginning; of several lines, each is a paragraph, and the last one is gone on with.
        most: tokens at most.
        top_p: draws among the likeliest tokens whose probabilities reach this sum (arXiv 1904.09751); null: always
            takes the likeliest.
        temperature: below 1 keeps more to likely tokens, above 1 less.
        count: how many times.
        seed: of what is drawn.
    """
    if most < 1 or count < 1:
        raise ValueError(f"most={most} and count={count} must be 1 or more")
    directory = resolve(model)
    writer = load(directory)
    if not isinstance(writer, LanguageModel):
        raise ValueError(f"{model} writes no texts; give a language model (mm-mhmoe lm)")
    words = Tokenizer.load(directory)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    *before, begun = words.encode_all(prompt.split("\n"))
    ids = document_ids(before) + begun
    ids_BL = torch.tensor([ids] * count, device=device)
    beginnings = Texts(ids_BL=ids_BL, valid_BL=torch.ones_like(ids_BL, dtype=torch.bool))
    generator = torch.Generator(device).manual_seed(seed)
    found = generate(
        writer.to(device),
        beginnings,
        most=most,
        pieces=len(words),
        top_p=top_p,
        temperature=temperature,
        generator=generator,
    )
    console = Console()
    for written in found:
        console.print(words.decode(begun + written), highlight=False, markup=False)
