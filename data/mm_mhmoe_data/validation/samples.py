"""Members put together to samples by their keys, wherever they lie, and what their names say against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mm_mhmoe_data.shards.index import IMAGE_EXTENSIONS
from mm_mhmoe_data.shards.tar import split_name
from mm_mhmoe_data.shards.walk import Member
from mm_mhmoe_data.validation.structure import Break

_RUNS_CODE = {"pyd", "pickle", "pkl", "pth", "pt", "joblib", "dill"}
_INFLATES = {"gz", "npz", "bz2", "xz", "zst", "zip"}

Found = Callable[..., None]


@dataclass(kw_only=True)
class Group:
    """The members of one key. copies: second members of an extension; doubtful: some may be missing or spoilt."""

    key: str
    parts: dict[str, Member] = field(default_factory=dict)
    copies: list[tuple[str, Member]] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    doubtful: bool = False


def group(members: Iterable[Member], breaks: Iterable[Break], found: Found) -> list[Group]:
    """All samples in the order of their first members. `found(kind, problem, key=, member=, at=)` hears of problems."""
    groups: dict[str, Group] = {}
    at_place: list[Group | None] = []
    for place, member in enumerate(members):
        key, extension = split_name(member.name)
        if not key or not extension:
            found("no_key", f"member {member.name!r} has no key or no extension", member=member.name, at=member.offset)
            at_place.append(None)
            continue
        _check_name(member, key, extension, found)
        one = groups.setdefault(key, Group(key=key))
        one.places.append(place)
        at_place.append(one)
        if extension in one.parts:
            one.copies.append((extension, member))
        else:
            one.parts[extension] = member
    for one in groups.values():
        if one.copies:
            extension, member = one.copies[0]
            problem = f"it has .{extension} twice" + (f" and {len(one.copies) - 1} more" if len(one.copies) > 1 else "")
            found("twice", problem, key=one.key, member=member.name, at=member.offset)
        elif one.places[-1] - one.places[0] >= len(one.places):
            in_order = enumerate(zip(one.places, one.parts.values(), strict=True))
            apart = next(member for number, (place, member) in in_order if place != one.places[0] + number)
            problem = f"it is not next to {next(iter(one.parts.values())).name}"
            found("split", problem, key=one.key, member=apart.name, at=apart.offset)
    _mark_doubtful(list(groups.values()), at_place, breaks)
    return list(groups.values())


def _mark_doubtful(groups: list[Group], at_place: list[Group | None], breaks: Iterable[Break]) -> None:
    """Samples beside a break are trusted only if they have the parts that samples elsewhere have."""
    beside: list[tuple[Group, bool]] = []
    for place, doubtful in breaks:
        if place > 0 and (before := at_place[place - 1]) is not None:
            beside.append((before, doubtful))
        if place < len(at_place) and (after := at_place[place]) is not None:
            beside.append((after, False))
    touched = {id(one) for one, _ in beside}
    usual = Counter(_roles(one) for one in groups if id(one) not in touched)
    for one, doubtful in beside:
        whole = bool(usual) and _roles(one) == usual.most_common(1)[0][0]
        one.doubtful = one.doubtful or doubtful or not whole


def _roles(one: Group) -> frozenset[str]:
    """Its extensions, with one name for all that pictures have."""
    return frozenset("picture" if extension in IMAGE_EXTENSIONS else extension for extension in one.parts)


def _check_name(member: Member, key: str, extension: str, found: Found) -> None:
    def say(kind: str, problem: str) -> None:
        found(kind, f"member {member.name!r} {problem}", key=key, member=member.name, at=member.offset)

    name, last = member.name, extension.rpartition(".")[2]
    folders = name.replace("\\", "/").split("/")
    if name.startswith("/") or "\\" in name or name[1:3] == ":/" or ".." in folders:
        say("path", "names a place outside the folder it is unpacked to")
    elif any(part.startswith(".") and part != "." for part in folders):
        say("path", "is hidden")
    if not name.isprintable():
        say("control", "has characters that cannot be printed")
    if last in _RUNS_CODE:
        say("runs_code", "is a pickle by its extension")
    elif last in _INFLATES:
        say("inflates", "is compressed by its extension")
    elif "." in extension:
        say("dots", f"has the key {key!r} and the extension {extension!r} here; other readers end the key elsewhere")
