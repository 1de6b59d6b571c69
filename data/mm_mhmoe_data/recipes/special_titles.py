"""Families of drawings whose file names follow a scheme: cards, flags, stars, signs, lights, icons."""

from __future__ import annotations

import re
import unicodedata

from .svg_metadata import SvgMetadata
from .vocabulary import COLOURS, Glossary

_RANKS = {"a": "ace", "j": "jack", "q": "queen", "k": "king", "t": "ten"} | {
    str(n): word
    for n, word in enumerate(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
}
_SUITS = {"c": "clubs", "d": "diamonds", "h": "hearts", "s": "spades"}
_CONTINENTS = {
    "africa": "africa",
    "america": "america",
    "asia": "asia",
    "europe": "europe",
    "oceania": "oceania",
}
_COUNTRIES = [
    "france",
    "spain",
    "germany",
    "italy",
    "belgium",
    "denmark",
    "finland",
    "norway",
    "canada",
    "australia",
    "united_kingdom",
    "united_states",
    "china",
]
_NOT_A_FLAG = re.compile(
    r"""\bmaps?\b|coat\ of\ arms|outline|building|\brivers?\b|\brios\b|ampel|inukshuk|badge|\btux|umbrella
    |golf_|globe|\broute|stemma|hideaway|teide|capitol|carte|semaphore\ flag\ positions""",
    re.VERBOSE,
)
_FILLER = [
    "the",
    "a",
    "official",
    "national",
    "flag",
    "flags",
    "of",
    "republic",
    "for",
    "flying",
    "usa",
    "historic",
    "clipart",
    "by",
    "-",
    ":",
    "1",
]
_PEOPLE_TO_PLACES = {
    "british": "great britain",
    "chinese": "china",
    "israeli": "israel",
    "pakistani": "pakistan",
    "ukrainian": "ukraine",
    "iraqi": "iraq",
    "eu": "european union",
    "canarian islands": "canary islands",
    "norwegian state": "norway (state)",
    "copileftcommies": "copyleft",
}


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().strip()


def special_title(folder: str, stem: str, metadata: SvgMetadata, glossary: Glossary) -> tuple[str, str] | None:
    """(title, context) for the families this module knows, None for everything else."""
    title = _ascii(metadata.title)
    if folder.startswith("recreation/games/cards/"):
        return _card(stem)
    flags = folder.startswith("signs_and_symbols/flags") or (
        folder.startswith("signs_and_symbols") and "flag" in metadata.keywords
    )
    if flags and not _NOT_A_FLAG.search(f"{title} {stem}"):
        return _flag(folder, stem, title, glossary)
    star = re.fullmatch(r"star_(\d+)pt\d+step", stem)
    if star:
        return _star(int(star.group(1))), ""
    if stem.startswith("aiga_"):
        name = re.sub(r"[_\d]+$", "", stem.removeprefix("aiga_")).replace("_", " ")
        return glossary.translate(name.replace(" inv", "")), "public sign"
    if title.startswith("hotel icon"):
        name = re.sub(r"\(.*?\)|collection|[-,]|\bi\b", " ", title.removeprefix("hotel icon")).strip()
        return name or "hotel", "hotel sign"
    if stem.startswith("led_"):
        return _led(stem), ""
    if stem.startswith("gradient-"):
        return glossary.translate(re.sub(r"[-\d]+", " ", stem.removeprefix("gradient-")).strip()), "color gradient"
    if stem.startswith("jigsaw_"):
        return f"{stem.split('_')[1]} jigsaw piece", ""
    return _plain_family(folder, stem)


def _plain_family(folder: str, stem: str) -> tuple[str, str] | None:
    """Numbered families that share one title."""
    if folder.endswith("icons") and re.match(r"people_|70a|plastik_icon", stem):
        return ("person icon" if stem.startswith("people") else "computer icon"), ""
    if folder == "people" and re.fullmatch(r"(head|man|woman|buddy|cm|ppls?)\d*|people", stem):
        return {"head": "head of a person", "woman": "woman", "man": "man"}.get(re.sub(r"\d", "", stem), "person"), ""
    if re.match(r"smiley\d", stem):
        return "smiley face", ""
    if folder == "people/stickmen":
        return ("blue stick figure" if stem.startswith("blueman") else "stick figure"), ""
    if re.fullmatch(r"fc\d+", stem):
        return "flowchart symbol", ""
    if folder.startswith("shapes/arrows") and re.fullmatch(r"arrow[\d_-]+", stem):
        return "arrow", ""
    if re.fullmatch(r"(\w+_)+symbol_\d+c?m_bwh", stem):
        return re.sub(r"_\d+_symbol.*", "", stem).replace("_", " "), "map symbol"
    element = re.match(r"([a-z]+)_-_rpg_map", stem)
    if element:
        return element.group(1), "map symbol"
    if re.fullmatch(r"(pink)?home\d*(-simple)?", stem):
        return ("pink house" if stem.startswith("pink") else "house"), "" if "homes" in folder else "icon"
    return None


def _card(stem: str) -> tuple[str, str] | None:
    if re.search(r"back|rovescio", stem):
        return "back of a playing card", ""
    match = re.fullmatch(r"(simple|white|bordered|ornamental)_([cdhs])_(\w+)", stem)
    if match and match.group(3) in _RANKS:
        return f"{_RANKS[match.group(3)]} of {_SUITS[match.group(2)]}", "playing card"
    if match or re.search(r"joker", stem):
        return "joker", "playing card"
    return None


def _star(points: int) -> str:
    # beyond a dozen points nobody counts them
    return f"star with {points} points" if points <= 12 else "star with many points"


def _led(stem: str) -> str:
    parts = [part for part in stem.split("_")[1:] if not part.isdigit()]
    shape = {"h": "horizontal", "v": "vertical"}
    colour = [part for part in parts if part in COLOURS]
    rest = [shape.get(part, part) for part in parts if part not in COLOURS]
    return " ".join(["gray" if word == "grey" else word for word in colour] + rest + ["led light"])


def _flag(folder: str, stem: str, title: str, glossary: Glossary) -> tuple[str, str]:
    if stem.startswith("signalflag_"):
        name = title.removeprefix("international maritime signal flag").strip() or stem.split("_")[1]
        return f"signal flag {name}", "maritime"
    if stem.startswith("semaphore_"):
        return f"semaphore flag {stem.split('_')[1]}", "navy"
    parts = folder.split("/")[2:]
    name = re.sub(r"\(.*?\)|\d+$", " ", title.rpartition(" - ")[2] if " - " in title else title)
    if not name.strip() or "clipart by" in name:
        name = re.sub(r"_?\d*$", "", stem).replace("_", " ")
    words = re.sub(r"[_\s,:/]+|\d{4}\S*", " ", re.sub(r"^uk[- ]", "", name)).split()
    while words and words[0] in _FILLER:
        words.pop(0)
    while words and (words[-1] in _FILLER or words[-1].isdigit()):
        words.pop()
    name = " ".join(words).strip(" -.")
    name = glossary.translate(_PEOPLE_TO_PLACES.get(name, name))
    country = next((part for part in parts if part in _COUNTRIES), "")
    place = (country or next((_CONTINENTS[part] for part in parts if part in _CONTINENTS), "")).replace("_", " ")
    for prefix in ("united states", "canada", "australia", "france", "spain", "germany", "china"):
        if country and name.startswith(prefix + " "):
            name = name.removeprefix(prefix).strip()
    if "pirates" in parts:
        return "pirate flag of " + name.replace("pirate ", ""), ""
    if "historic" in parts:
        return "historic flag of " + name, ""
    if name == place and country:
        place = next((_CONTINENTS[part] for part in parts if part in _CONTINENTS), "")
    return f"flag of {name}" if name else "flag", place
