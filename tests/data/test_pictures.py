"""Truth: PIL's own decoder and conversions, and pictures whose pixels are known. All pictures here are made up."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data import pictures
from mm_mhmoe_data.pictures import decode_picture
from PIL import Image, ImageOps

BOTH = pytest.mark.parametrize("decoder", ["PIL", "simplejpeg"])


def smooth(height: int = 60, width: int = 90, seed: int = 0) -> Image.Image:
    rows = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(rows).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def by_pil(content: bytes) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(content)).convert("RGB"))).permute(2, 0, 1)


def use(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if decoder == "PIL":
        monkeypatch.setattr(pictures, "simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")


@BOTH
@pytest.mark.parametrize(
    "options", [{"quality": 90}, {"quality": 40, "subsampling": 0}, {"subsampling": 1}, {"progressive": True}]
)
def test_a_jpeg_has_pils_pixels(decoder: str, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    use(decoder, monkeypatch)
    content = encoded(smooth(61, 87), **options)
    picture_CHW = decode_picture(content)
    assert picture_CHW.dtype == torch.uint8 and torch.equal(picture_CHW, by_pil(content))
    assert picture_CHW.permute(1, 2, 0).is_contiguous()


@BOTH
@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_become_rgb(decoder: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(decoder, monkeypatch)
    content = encoded(smooth().convert(mode))
    assert torch.equal(decode_picture(content), by_pil(content))


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_back_what_was_saved(format: str, options: dict) -> None:
    image = smooth()
    assert np.array_equal(decode_picture(encoded(image, format, **options)).permute(1, 2, 0).numpy(), np.array(image))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_transparent_parts_become_white(format: str) -> None:
    image = Image.new("RGBA", (4, 2), (200, 0, 0, 0))
    image.putpixel((1, 0), (200, 100, 0, 255))
    pixels_HWC = decode_picture(encoded(image, format, lossless=True)).permute(1, 2, 0)
    assert pixels_HWC[0, 1].tolist() == [200, 100, 0]
    assert (pixels_HWC.sum(-1) == 765).sum() == 7


def test_palettes_and_sixteen_bits_become_rgb() -> None:
    palette = smooth().quantize(16)
    assert torch.equal(decode_picture(encoded(palette, "PNG")), by_pil(encoded(palette, "PNG")))
    wide = Image.fromarray(np.array([[0, 255, 256, 0x1234, 0xFFFF]], dtype=np.uint16))
    assert decode_picture(encoded(wide, "PNG"))[:, 0].tolist() == [[0, 0, 1, 0x12, 255]] * 3  # the high bytes


@BOTH
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_turned_pictures_are_turned_upright(
    decoder: str, orientation: int, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(decoder, monkeypatch)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(smooth(), format, exif=exif)
    true = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(decode_picture(content).permute(1, 2, 0).numpy(), true)


def test_damaged_camera_notes_do_no_harm() -> None:
    content = encoded(smooth(), exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert torch.equal(decode_picture(content), by_pil(content))


@BOTH
@pytest.mark.parametrize(("at_least", "by"), [(61, 1), (60, 1), (31, 1), (30, 2), (15, 4), (8, 4), (7, 8), (1, 8)])
def test_a_jpeg_may_come_smaller(decoder: str, at_least: int, by: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use(decoder, monkeypatch)
    picture_CHW = decode_picture(encoded(smooth(60, 91), quality=95), at_least=at_least)
    assert picture_CHW.shape == (3, -(-60 // by), -(-91 // by))
    # libjpeg halves by leaving out frequencies; the mean over boxes of by x by pixels comes close to that.
    boxes = torch.nn.functional.avg_pool2d(by_pil(encoded(smooth(60, 91), quality=95)).float(), by, ceil_mode=True)
    assert (picture_CHW.float() - boxes).abs().mean() < 4


def test_only_jpegs_come_smaller() -> None:
    assert decode_picture(encoded(smooth(), "PNG"), at_least=8).shape == (3, 60, 90)


@BOTH
def test_limits_are_looked_up_in_the_header(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(decoder, monkeypatch)
    content = encoded(smooth())
    monkeypatch.setattr(pictures, "MAX_PIXELS", 60 * 90 - 1)
    with pytest.raises(ValueError, match="90x60 pixels"):
        decode_picture(content)
    monkeypatch.setattr(pictures, "MAX_BYTES", len(content) - 1)
    with pytest.raises(ValueError, match="bytes"):
        decode_picture(content)


def test_a_small_file_of_many_pixels_is_refused() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000))
    with pytest.raises(ValueError, match="pixels"):
        decode_picture(content)


@BOTH
@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_refused(decoder: str, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(decoder, monkeypatch)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_picture(encoded(smooth(), format))


@BOTH
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_gives_a_picture(decoder: str, data: st.DataObject) -> None:
    """Cut anywhere, or up to eight bytes changed: nothing but ValueError may come out, whichever decoder is there."""
    content = bytearray(encoded(smooth(24, 24), data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(content[: data.draw(st.integers(0, len(content)))])
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(decoder, monkeypatch)
        with contextlib.suppress(ValueError):
            assert decode_picture(cut).shape[0] == 3
