"""What is wrong with the bytes of one sample: what training would stumble over."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable

from PIL import Image

from mm_mhmoe_data.pictures import FORMATS, MAX_BYTES, MAX_PIXELS, decode_picture
from mm_mhmoe_data.pipeline import MAX_CAPTION_BYTES
from mm_mhmoe_data.shards.index import IMAGE_EXTENSIONS
from mm_mhmoe_data.shards.walk import Member
from mm_mhmoe_data.validation.findings import Checks

_FORMAT_OF = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}

Say = Callable[[str, str, Member | None], None]
"""Hears of (kind of finding, problem, the member that has it)."""


def check_sample(parts: dict[str, Member], read: Callable[[Member], bytes], checks: Checks, say: Say) -> None:
    """Looks at picture, text and .json of one sample."""
    pictures = [extension for extension in IMAGE_EXTENSIONS if extension in parts]
    if pictures:
        _check_picture(pictures[0], parts[pictures[0]], read, checks, say)
    elif checks.parts != "texts":
        say("no_picture", f"it has {', '.join('.' + name for name in parts)} only", None)
    if len(pictures) > 1:
        say("two_pictures", f"it has {', '.join('.' + name for name in pictures)}", None)
    if "txt" in parts:
        _check_text(parts["txt"], read, checks, say)
    elif checks.parts != "images":
        say("no_text", f"it has {', '.join('.' + name for name in parts)} only", None)


def _check_picture(extension: str, member: Member, read: Callable[[Member], bytes], checks: Checks, say: Say) -> None:
    if member.size > MAX_BYTES:
        return say("picture", f"it has {member.size} bytes; at most {MAX_BYTES} are read", member)
    content = read(member)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes that are looked at here
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                format, width, height = image.format, image.width, image.height
            if width * height > MAX_PIXELS:
                return say("pixels", f"it has {width}x{height} pixels; at most {MAX_PIXELS} are decoded", member)
            if checks.decode:
                decode_picture(content)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return say("picture", _what_it_is(content) or str(error), member)
    if format != _FORMAT_OF[extension]:
        say("format", f"it is {format}", member)
    if min(width, height) < checks.min_side:
        say("small", f"it has {width}x{height} pixels", member)
    return None


def _what_it_is(content: bytes) -> str | None:
    """What a picture is that is none, where that helps."""
    if not content:
        return "it has no bytes"
    if not any(content):
        return "it is all zeros"
    begin = content[:64].lstrip().lower()
    if begin.startswith((b"<!doctype", b"<html")):
        return "it is a web page"
    if begin.startswith((b"gif8", b"bm", b"%!ps", b"<svg", b"<?xml", b"ii*\0", b"mm\0*")) or content[4:8] == b"ftyp":
        return f"it is of another format than {', '.join(FORMATS)}"
    return None


def _check_text(member: Member, read: Callable[[Member], bytes], checks: Checks, say: Say) -> None:
    if member.size > MAX_CAPTION_BYTES:
        return say("long_text", f"it has {member.size} bytes; at most {MAX_CAPTION_BYTES} are read", member)
    try:
        text = read(member).decode("utf-8")
    except UnicodeDecodeError as error:
        return say("text", f"byte {error.start} of it is not UTF-8", member)
    if not text.strip() and checks.parts != "images":
        say("no_text", "its text is empty" if not text else "its text is blank", member)
    return None


def check_json(key: str, member: Member, read: Callable[[Member], bytes], say: Say) -> None:
    """Whether the .json is an object, and of this sample."""
    if member.size > MAX_CAPTION_BYTES:
        return say("long_text", f"it has {member.size} bytes; at most {MAX_CAPTION_BYTES} are read", member)
    try:
        content = json.loads(read(member))
    except (ValueError, RecursionError) as error:
        return say("json", f"it cannot be read ({error})", member)
    if not isinstance(content, dict):
        return say("json", f"it holds {type(content).__name__} instead of an object", member)
    stated = content.get("key")
    if stated is not None and str(stated) != key.rpartition("/")[2]:
        say("json_key", f"it says key {str(stated)[:80]!r}", member)
    return None
