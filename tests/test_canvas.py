"""Decoding: a file gives a photograph of the right pixels, or one reason why there is none."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, Resize
from torchvision.transforms.functional import InterpolationMode

from dtram_hub.data import canvas
from dtram_hub.data.canvas import Form, UnreadableImage, open_photograph
from dtram_hub.data.squares import centre


def saved(image: Image.Image, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 30, levels: int = 256) -> Image.Image:
    pixels = np.random.default_rng(0).integers(levels, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# Pillow's decoders raise errors of many kinds for these, of which some are no OSError.
DAMAGED = {
    "unknown DDS": saved(noise(), "DDS")[:80] + b"\x04\0\0\0ABCD" + bytes(200),
    "LAB, as grey": saved(Image.frombytes("LAB", (4, 4), bytes(48)), "TIFF"),
    "empty": b"",
    "unknown": b"GIF of a cat",
    "truncated PNG": saved(noise(), "PNG")[:700],
    "truncated JPEG": saved(noise(), "JPEG")[:400],
    "PPM of no size": b"P6\n-3 4\n255\n" + bytes(36),
    "bomb": saved(noise(), "PNG")[:16] + b"\x00\x00\x75\x30" * 2 + saved(noise(), "PNG")[24:],
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_whatever_a_decoder_raises_is_unreadable_for_one_reason(kind: str) -> None:
    with pytest.raises(UnreadableImage, match=r"^[^\n]{5,200}$"):
        open_photograph(DAMAGED[kind], 1)
    assert canvas.decode({"path": None, "bytes": DAMAGED[kind]}, Form(1, 8)).pixels is None


@pytest.mark.skipif("AVIF" not in Image.OPEN and not Image.init(), reason="Pillow without AVIF")
def test_a_damaged_avif_is_unreadable() -> None:
    content = saved(noise(64, 64), "AVIF")
    for cut in (len(content) // 2, len(content) - 20):
        assert canvas.decode({"path": None, "bytes": content[:cut]}, Form(3, 8)).pixels is None


@pytest.mark.parametrize("file", [None, {"path": None, "bytes": None}, {"path": None, "bytes": b""}])
def test_no_image_is_no_image(file: dict | None) -> None:
    assert canvas.decode(file, Form(3, 8)).pixels is None
    assert canvas.decode_all([file], Form(3, 8))[0].fault
    assert canvas.content_or_nothing(file) == b""


def test_a_pipe_a_folder_and_nothing_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    for name, reason in (("pipe", "no regular file"), ("folder", "no regular file"), ("dangling", "No such")):
        with pytest.raises(UnreadableImage, match=reason):
            open_photograph(tmp_path / f"{name}.png", 3)
        assert (
            canvas.decode({"path": str(tmp_path / f"{name}.png"), "bytes": None}, Form(3, 8)).pixels is None
        )


@pytest.mark.parametrize("kind", ["TIFF", "PPM"])
def test_floats_have_no_range_and_are_refused(kind: str) -> None:
    levels = np.random.default_rng(0).random((20, 20), dtype=np.float32)
    content = saved(Image.fromarray(levels), kind)
    with pytest.raises(UnreadableImage, match="its levels are floats, of which no range is known"):
        open_photograph(content, 3)
    assert canvas.decode({"path": None, "bytes": content}, Form(1, 8)).pixels is None


def test_integers_outside_of_16_bits_are_refused() -> None:
    for level in (-5, 70_000):
        levels = np.full((4, 4), 1000, np.int32)
        levels[0, 0] = level
        with pytest.raises(UnreadableImage, match=rf"levels run from .*{level}.*accepted are 0 to 65535"):
            open_photograph(saved(Image.fromarray(levels), "TIFF"), 3)


def test_12_bits_in_16_are_doubtful_and_16_bits_are_not() -> None:
    levels = np.random.default_rng(0).integers(4096, size=(20, 20)).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        dim = open_photograph(saved(Image.fromarray(levels), kind), 3)
        assert "16-bit levels all stay below 4096" in dim.info["warning"]
        assert open_photograph(saved(Image.fromarray(levels * 16), kind), 3).info == {}
    assert open_photograph(saved(noise(levels=10), "PNG"), 3).info == {}  # dark, in 8 bits
    big_endian = b"MM\x00\x2a" + saved(Image.fromarray(levels), "TIFF", big_tiff=False)[4:]
    assert (
        canvas.decode({"path": None, "bytes": big_endian}, Form(3, 8)).pixels is None
    )  # offsets of the other order


def test_colours_of_16_bits_are_looked_at_as_well() -> None:
    header = b"P6 20 20 65535\n"
    levels = np.random.default_rng(0).integers(4096, size=(20, 20, 3)).astype(">u2")
    bright = (levels.astype(int) * 16).astype(">u2")
    pixels = np.asarray(open_photograph(header + bright.tobytes(), 3)).astype(int)
    assert abs(pixels - bright / 257).max() <= 1
    opaque = np.full((20, 20, 1), 65535, ">u2")
    for more in ([], [opaque]):
        dim, whole = (_png16(np.concatenate([colours, *more], axis=2)) for colours in (levels, bright))
        assert "below 4096" in open_photograph(dim, 3).info["warning"]
        assert open_photograph(whole, 3).info == {}


def _png16(levels: np.ndarray) -> bytes:
    """A PNG of 16-bit colours, with or without opacity, which Pillow reads and does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    height, width, channels = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (3, 2000), (7, 601), (60, 40)])
def test_the_middle_of_a_strip_becomes_the_same_pixels(size: tuple[int, int]) -> None:
    strip, side = noise(*size), 12
    middle = centre(strip)
    assert max(middle.size) < 18 * min(middle.size) or middle.size == strip.size
    transform = Compose([Resize(side, InterpolationMode.BICUBIC), CenterCrop(side)])
    whole, cut = (np.asarray(transform(image)).astype(int) for image in (strip, middle))
    assert abs(whole - cut).max() <= 2
    fitted = [ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC) for image in (strip, middle)]
    assert abs(np.asarray(fitted[0]).astype(int) - np.asarray(fitted[1])).max() <= 1


def test_the_middle_of_an_ordinary_image_is_the_image() -> None:
    for size in ((30, 30), (500, 30), (30, 480)):
        image = noise(*size)
        assert centre(image) is image


def test_a_strip_takes_the_memory_of_its_pixels(tmp_path: Path) -> None:
    noise(1, 100_000).save(tmp_path / "strip.png")
    image = centre(open_photograph(tmp_path / "strip.png", 3))
    assert image.size == (1, 17 if image.height % 2 else 16)
    assert canvas.decode({"path": str(tmp_path / "strip.png"), "bytes": None}, Form(3, 64)).pixels.shape == (
        3,
        64,
        64,
    )
