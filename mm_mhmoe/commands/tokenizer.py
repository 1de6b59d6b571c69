from __future__ import annotations

from pathlib import Path

from mm_mhmoe_data.language import balanced_paragraphs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import CaptionLines, captions_of
from mm_mhmoe_data.tokenizer import Normalization, Tokenizer, train_tokenizer
from rich.console import Console

from mm_mhmoe.commands.sources import data_path


def train(
    out: Path,
    shards: str = "demo:train",
    vocab_size: int = 2048,
    questions: str | None = None,
    all_languages: bool = False,
    language_exponent: float | None = None,
    languages: list[str] | None = None,
    normalization: Normalization = "nmt_nfkc_cf",
    character_coverage: float = 0.9995,
    byte_fallback: bool = False,
) -> None:
    """Trains a SentencePiece unigram tokenizer on captions, or on texts of several languages.

    Args:
        out: directory to write tokenizer.model into.
        shards: captions or texts to learn from: a folder, glob, list or address of .tar files, or demo:train.
        vocab_size: pieces at most; small texts give fewer.
        questions: a VQAv2 questions file, or demo:..., whose questions are learnt from as well.
        all_languages: learns from the captions in every language that .json has, as retrieval with
            data.captions=languages does.
        language_exponent: learns from paragraphs (lines of texts) drawn by language, with shares p^exponent (XLM, arXiv
            1901.07291: 0.5): 1: as there is, 0: all languages alike; none: from every text once.
        languages: with language_exponent, only those ('[en-US,fr-FR]').
        normalization: nmt_nfkc_cf (lower case, compatible characters alike), nmt_nfkc (the latter only), or identity.
        character_coverage: share of all characters that get pieces, the frequent ones; 1 for many scripts.
        byte_fallback: writes characters that no piece has as bytes (256 of the pieces), so that every text can be told
            from its tokens.
    """
    from mm_mhmoe_data.vqa_data import read_questions

    if languages is not None and language_exponent is None:
        raise ValueError(f"languages={languages} needs language_exponent; give it, 1 for shares as there are")
    console = Console()
    if language_exponent is None:
        dataset = ShardDataset(data_path(shards))
        lines: CaptionLines = "languages" if all_languages else "whole"
        by_language = {"": [text for i in range(len(dataset)) for text in captions_of(dataset, i, lines)]}
    else:
        texts_only = ShardDataset(data_path(shards), "texts")
        by_language = balanced_paragraphs(texts_only, language_exponent, languages=languages)
    texts = [text for some in by_language.values() for text in some]
    if questions is not None:
        texts += read_questions(data_path(questions))
    model = train_tokenizer(
        texts,
        Path(out),
        vocab_size=vocab_size,
        normalization=normalization,
        character_coverage=character_coverage,
        byte_fallback=byte_fallback,
    )
    words = Tokenizer.load(model)
    console.print(f"tokenizer: {len(words)} pieces from {len(texts):,} texts -> {model}", highlight=False)
    if language_exponent is not None:
        covered = {language: words.coverage(some) for language, some in by_language.items()}
        lowest = min(covered, key=lambda language: covered[language])
        console.print(
            f"tokenizer: pieces have {words.coverage(texts):.4%} of the characters; least in "
            f"{lowest or 'texts without a language'}: {covered[lowest]:.4%}",
            highlight=False,
        )
