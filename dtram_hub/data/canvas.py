"""Decoding: photographs of any size and mode become uint8 images in the form that training needs.

*Canvases* are squares of one size. Other images keep their aspect.

`open_photograph` is the one place that decodes a file. Decoders raise errors of many kinds; here each of them
becomes an `UnreadableImage`.
"""

import io
import math
import re
import stat
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..images.pyramid import UnreadableImage
from ..prompt import one_line, printable
from .squares import SQUARES, fitted, fitted_size

PROGRAMS = {"EPS"}  # formats that Pillow would hand to another program, which executes the file
WIDE = re.compile(r";16[BLN]")  # in Pillow's names of 16-bit layouts
DIM = 4096  # 16-bit levels that all stay below are 12-bit data
DIM_WARNING = f"its 16-bit levels all stay below {DIM}, as in 12-bit data, and it comes out nearly black"
LONGEST_REASON = 160
# Photographs that Pillow does not decode by itself. They count as images, so that no class of them vanishes.
FOREIGN = {".heic", ".heif", ".hif", ".jxl", ".jxr", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf"}
MOST_DECODED = 178_956_970  # of a file, twice what Pillow warns of
LIMIT = threading.Lock()


@dataclass(frozen=True)
class Form:
    """The form in which decoded images are kept.

    channels: C, 1 for grey and 3 for RGB.
    side: S, the side of squares in pixels, or the longer side of images that keep their aspect; None for
        images as large as they come.
    keeps_aspect: whether images keep their aspect; otherwise they become squares.
    levels: the levels of black and white in files of 16 bits or floats; None for 0 and 65535.
    crop_mode: how images become squares, a key of SQUARES.
    colour: of what a square has beyond its image, 0 to 255 for each channel; black by default.
    """

    channels: int
    side: int | None
    keeps_aspect: bool = False
    levels: Sequence[float] | None = None
    crop_mode: str = "centre"
    colour: tuple[int, ...] = ()

    @property
    def is_square(self) -> bool:
        """Whether all images are squares of one size."""
        return self.side is not None and not self.keeps_aspect


@dataclass(frozen=True)
class Canvas:
    """A decoded photograph, or the reason why there is none.

    pixels: (C, S, S) uint8 for squares, else (H, W, C); None for an unreadable file.
    fault: why the file is unreadable; "" for a readable one.
    warning: why the pixels may be wrong, or "".
    """

    pixels: np.ndarray | None
    fault: str = ""
    warning: str = ""


def open_photograph(
    source: Path | str | bytes | BinaryIO | Image.Image,
    in_chans: int,
    *,
    least: int | None = None,
    most_pixels: int = MOST_DECODED,
    levels: Sequence[float] | None = None,
) -> Image.Image:
    """Open one photograph, upright, in 8 bits.

    Memory is bounded by the file's own pixels, of which `most_pixels` are accepted. Who makes a square of the
    image by timm's transform calls `Square.tame` before.

    Args:
        source: a path, the content of a file, an open file, or an image of Pillow, which stays open.
        in_chans: 1 for grey, 3 for RGB.
        least: a side in pixels; a larger JPEG may be decoded at a fraction of its size, but not below this.
        most_pixels: a small file may claim to hold a large image, to fill the memory.
        levels: the levels of black and white in files of 16 bits or floats; None for 0 and 65535.

    Returns:
        An image of mode "L" or "RGB" without the file's metadata. `info["warning"]` says why the pixels may
        be wrong, where there is a reason to doubt them.

    Raises:
        UnreadableImage: no regular file, no image, a damaged one, one of too many pixels, or one of levels
            without a known range.
    """
    try:
        if isinstance(source, Image.Image):
            return _as_photograph(source, in_chans, levels)
        with _header(source, most_pixels) as image:
            if least is not None:
                image.draft("L" if in_chans == 1 else "RGB", (least, least))
            return _as_photograph(image, in_chans, levels)
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise errors of nearly every kind
        raise UnreadableImage(_reason(error)) from error


def image_endings() -> set[str]:
    """The endings of the names of images, in lower case: all that Pillow opens, and FOREIGN."""
    Image.init()
    return {ending for ending, name in Image.registered_extensions().items() if name in Image.OPEN} | FOREIGN


def decode(file: dict | None, form: Form, most_pixels: int = MOST_DECODED) -> Canvas:
    """Decode one photograph.

    Args:
        file: {"path", "bytes"}, as in `datasets.Image(decode=False)`; None is unreadable.
        form: what becomes of the photograph.
        most_pixels: as in `open_photograph`.
    """
    least = None if form.side is None else 2 * form.side  # a large JPEG is decoded faster at a fraction
    try:
        image = open_photograph(
            read_content(file), form.channels, least=least, most_pixels=most_pixels, levels=form.levels
        )
        warning = image.info.get("warning", "")
        if form.is_square:
            colour = form.colour or (0,) * form.channels
            image = SQUARES[form.crop_mode].make(image, form.side, colour)
        elif form.side is not None:
            image = fitted(image, form.side)
    except UnreadableImage as error:
        return Canvas(None, fault=str(error))
    pixels = np.asarray(image).reshape(image.height, image.width, form.channels)
    return Canvas(pixels.transpose(2, 0, 1) if form.is_square else pixels, warning=warning)


def size_of(file: dict | None, form: Form) -> tuple[int, int]:
    """The sides of a photograph after `decode`, read off its header; (1, 1) for an unreadable one."""
    try:
        with _header(read_content(file), MOST_DECODED) as image:
            width, height = image.size if form.side is None else fitted_size(image.size, form.side)
            return height, width
    except Exception:  # as in `open_photograph`; who decodes the file says what is wrong with it
        return 1, 1


def box_in(file: dict, box: list[float], form: Form) -> list[float]:
    """The part of a box that `decode` keeps, as locations in the decoded image.

    Args:
        file, form: as in `decode`.
        box: left, top, width, height in pixels of the photograph.

    Returns:
        top, left, bottom, right in [-1, 1]; NaN for an unreadable file.
    """
    try:
        with Image.open(_checked(file["path"]), formats=_formats()) as image:
            lies = image.getexif().get(ExifTags.Base.Orientation, 1) > 4  # on its side
            width, height = reversed(image.size) if lies else image.size
    except Exception:  # as in `open_photograph`; who decodes the file says what is wrong with it
        return [math.nan] * 4
    left, top = box[:2]
    shown = SQUARES[form.crop_mode].shown((width, height)) if form.is_square else (width, height)
    across, down = (
        (2 * corner - whole) / side
        for corner, whole, side in zip((left, top), (width, height), shown, strict=True)
    )
    corners = down, across, down + 2 * box[3] / shown[1], across + 2 * box[2] / shown[0]
    return [min(max(corner, -1.0), 1.0) for corner in corners]


def decode_all(files: list[dict | None], form: Form) -> list[Canvas]:
    """`decode` many photographs on all cores."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda file: decode(file, form), files))


def read_content(file: Mapping | None) -> bytes:
    """The undecoded bytes of {"path", "bytes"}, of which one may be None.

    Raises:
        UnreadableImage: there are none.
    """
    if file and file["bytes"]:
        return file["bytes"]
    if not file or not file["path"]:
        raise UnreadableImage("there is no image")
    try:
        _checked(file["path"])
        return Path(file["path"]).read_bytes()
    except OSError as error:
        raise UnreadableImage(_reason(error)) from error


def content_or_nothing(file: dict | None) -> bytes:
    """`read_content`, for checksums: b"" for a file that cannot be read."""
    try:
        return read_content(file)
    except UnreadableImage:
        return b""


def _checked(source: Path | str | bytes | BinaryIO) -> Path | BinaryIO:
    """The source as Pillow takes it. Opening a pipe or a device could wait for ever."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, str | Path):
        return source
    if not stat.S_ISREG(Path(source).stat().st_mode):
        raise UnreadableImage("it is no regular file")
    return Path(source)


def _header(source: Path | str | bytes | BinaryIO, most_pixels: int) -> Image.Image:
    """Open a file and read its header alone; UnreadableImage for more than `most_pixels`."""
    with LIMIT:  # Pillow has one for all threads
        usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(_checked(source), formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = usual
    pixels = image.width * image.height
    if pixels > most_pixels:
        image.close()
        raise UnreadableImage(
            f"it has {pixels:,} pixels, more than {most_pixels:,}; --max-pixels allows them"
        )
    return image


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in PROGRAMS]


def _as_photograph(image: Image.Image, in_chans: int, levels: Sequence[float] | None) -> Image.Image:
    """Rotate an image by its EXIF orientation and convert it to 8 bits, grey (`in_chans` 1) or RGB (3)."""
    wide_colours = not image.mode.startswith("I") and WIDE.search(str(getattr(image, "tile", "")))
    image, highest = ImageOps.exif_transpose(image), DIM
    if levels is not None and image.mode.startswith(("F", "I")):
        image = _between(image, *levels)
    elif image.mode == "F":
        raise UnreadableImage("its levels are floats, of which no range is known; convert it to 8 bits")
    elif image.mode.startswith("I"):
        image = image if image.mode in ("I", "I;16") else image.convert("I")
        extrema: Any = image.getextrema()  # of one channel
        lowest, highest = extrema
        if lowest < 0 or highest > 65535:
            raise UnreadableImage(f"its levels run from {lowest} to {highest}; accepted are 0 to 65535")
        image = image.point(lambda level: level / 257)  # Pillow would clip 16-bit levels at 255
    image = image.convert("L" if in_chans == 1 else "RGB")
    if wide_colours:  # Pillow has kept the upper byte of each level
        highest = 256 * int(np.max(image.getextrema()))
    image.info = {"warning": DIM_WARNING} if highest < DIM else {}
    return image


def _between(image: Image.Image, black: float, white: float) -> Image.Image:
    """An image of floats or wide integers, its levels from `black` to `white` at 0 to 255."""
    scale = 255 / (white - black)
    return image.convert("F").point(lambda level: level * scale - black * scale)


def _reason(error: Exception) -> str:
    """Why an image is unreadable, as one line."""
    if isinstance(error, UnidentifiedImageError):
        return "its format is unknown"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = one_line(printable(text), LONGEST_REASON)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
