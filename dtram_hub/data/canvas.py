"""Decoding: a photograph of any size and kind becomes a *canvas*, a square uint8 image of one size."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

TRANSFORM = {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"}  # `decode`, in timm's words
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def decode(file: dict, size: int, in_chans: int) -> np.ndarray | None:
    """Make the canvas of one photograph: its shorter side is fitted to `size`, its centre is kept.

    Args:
        file: {"path", "bytes"}, as `datasets.Image(decode=False)` has it.
        size: side of the canvas in pixels.
        in_chans: 1 for grey, 3 for RGB.

    Returns:
        (in_chans, size, size) uint8; None if the file is no readable image.
    """
    try:
        with Image.open(io.BytesIO(file["bytes"]) if file["bytes"] else file["path"]) as image:
            # A large JPEG is decoded at a fraction of its size.
            image.draft("L" if in_chans == 1 else "RGB", (2 * size, 2 * size))
            image = as_photograph(image, in_chans)
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    except UNREADABLE:
        return None
    return np.asarray(image).reshape(size, size, in_chans).transpose(2, 0, 1)


def as_photograph(image: Image.Image, in_chans: int) -> Image.Image:
    """Turn an image as its EXIF says, and make it 8 bits of grey (`in_chans` 1) or of RGB (3)."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would clip all above 255
        image = image.point(lambda level: level / 257)
    return image.convert("L" if in_chans == 1 else "RGB")


def read_content(file: dict) -> bytes:
    """The undecoded bytes of {"path", "bytes"}, of which one may be None."""
    return file["bytes"] or Path(file["path"]).read_bytes()


def decode_all(files: list[dict], size: int, in_chans: int) -> list[np.ndarray | None]:
    """`decode` many photographs on all cores; None stands for each unreadable file."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda file: decode(file, size, in_chans), files))
