"""Truth: sizes worked out by hand, colours of the pixels, and what Pillow reads back. The pictures are made up."""

from __future__ import annotations

import io

import pytest
from mm_mhmoe_data.recipes.images import check_image_options, shard_image
from mm_mhmoe_data.recipes.pictures import PictureRejected
from PIL import Image


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def pixels(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((400, 200), (200, 100)), ((200, 400), (100, 200)), ((90, 300), (90, 300)), ((1000, 3), (1000, 3))],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_the_shorter_side_shrinks_and_nothing_grows(
    format: str, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    made = shard_image(encode(Image.new("RGB", size, "teal"), format), image_size=100, quality=80)
    assert (made.width, made.height) == pixels(made.content).size == wanted
    assert (made.original_width, made.original_height) == size and made.extension == "webp"


@pytest.mark.parametrize(("format", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_size_0_keeps_the_bytes(format: str, extension: str) -> None:
    content = encode(Image.new("RGB", (30, 20), "teal"), format)
    made = shard_image(content, image_size=0, quality=80)
    assert made.content == content and made.extension == extension and (made.width, made.height) == (30, 20)


def test_size_0_converts_what_shards_do_not_hold() -> None:
    made = shard_image(encode(Image.new("RGB", (30, 20), "teal"), "BMP"), image_size=0, quality=80)
    assert made.extension == "webp" and pixels(made.content).size == (30, 20)


def test_transparent_parts_become_white() -> None:
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 40))
    made = pixels(shard_image(encode(image, "PNG"), image_size=20, quality=100).content)
    assert min(made.getpixel((17, 10))) > 240  # type: ignore[type-var, arg-type]
    left = made.getpixel((2, 10))
    assert isinstance(left, tuple) and left[2] > 200 and left[0] < 60


def test_sixteen_bits_of_grey_are_scaled_not_cut_off() -> None:
    image = Image.new("I;16", (40, 40), 32768)
    made = pixels(shard_image(encode(image, "PNG"), image_size=20, quality=100).content)
    grey = made.getpixel((10, 10))
    assert isinstance(grey, tuple) and all(abs(value - 127.5) < 4 for value in grey)  # 32768 / 65535 of 255


def test_a_turned_camera_is_turned_back() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    made = shard_image(encode(Image.new("RGB", (80, 40), "teal"), "JPEG", exif=exif), image_size=20, quality=80)
    assert (made.width, made.height) == (20, 40)


@pytest.mark.parametrize("image_size", [0, 32])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unreadable picture"),
        (encode(Image.effect_noise((200, 200), 90), "PNG")[:-3000], "unreadable picture"),
        (encode(Image.new("1", (9000, 9000)), "PNG"), "more pixels than the decoding limit"),
        (encode(Image.new("1", (20000, 20000)), "PNG"), "more pixels than the decoding limit"),
    ],
)
def test_what_cannot_be_decoded_is_refused(content: bytes, reason: str, image_size: int) -> None:
    with pytest.raises(PictureRejected, match=reason):
        shard_image(content, image_size=image_size, quality=80)


@pytest.mark.parametrize(("image_size", "quality", "told"), [(8, 80, "image_size=8"), (64, 0, "quality=0")])
def test_unusable_options_are_named(image_size: int, quality: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_image_options(image_size, quality)
