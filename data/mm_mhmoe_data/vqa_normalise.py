"""How the official VQAv2 evaluation normalises an answer, warts included, so that scores stay comparable.

Rules: GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py.
"""

from __future__ import annotations

import re

_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've it'll ma'am mightn't mightn't've might've
mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've
somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've
something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas
wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've
who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd
you'd've you'll you're you've
"""

CONTRACTIONS: dict[str, str] = {
    word[:i] + word[i + 1 :]: word for word in _CONTRACTED.split() for i, letter in enumerate(word) if letter == "'"
}
"""A contraction that lacks one apostrophe -> the contraction."""
CONTRACTIONS["somebody'd"] = "somebodyd"  # the official table has this one the wrong way round
# These two map to themselves, so they change nothing; they make the table the official one.
CONTRACTIONS |= {"let's": "let's", "she's": "she's"}

_NUMBERS = "zero one two three four five six seven eight nine ten"
DIGITS = {word: str(number) for number, word in enumerate(_NUMBERS.split())} | {"none": "0"}

ARTICLES = frozenset({"a", "an", "the"})

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The official pattern asks that "<=" and a digit do not follow before the period, which is always so; what is
# left is a period that no digit follows. It also passes a flag where `re.sub` takes a count: at most 32
# periods go.
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32


def strip_space(answer: str) -> str:
    """Newlines and tabs to spaces, none at the ends."""
    return answer.replace("\n", " ").replace("\t", " ").strip()


def normalise_punctuation(answer: str) -> str:
    """Removes a mark that stands beside a space somewhere, else makes it a space.

    In an answer with a comma between two digits, every mark is removed.
    """
    joined = _COMMA_IN_NUMBER.search(answer) is not None
    result = answer
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in answer or f" {mark}" in answer
        result = result.replace(mark, "" if beside_space or joined else " ")
    return _PERIOD.sub("", result, count=_MOST_PERIODS)


def normalise_words(answer: str) -> str:
    """Lower case, number words to digits, no articles, apostrophes back into contractions."""
    words = (DIGITS.get(word, word) for word in answer.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def normalise(answer: str) -> str:
    """Punctuation, then words."""
    return normalise_words(normalise_punctuation(answer))
