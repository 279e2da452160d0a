"""Squares: what becomes of a photograph of any shape where all images have one size.

A new way is one line of SQUARES. It has a word of timm, whose transform gives the same pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageOps

Sides = tuple[int, int]  # width and height


@dataclass(frozen=True)
class Square:
    """One value of `data.crop_mode`.

    word: its name in timm's configurations.
    make: (image, side in pixels, colour) -> the square. The colour, one number of 0 to 255 for each channel,
        fills what the square has beyond the image.
    shown: the sides of an image -> the sides of what its square shows, in pixels of the image.
    tame: (image, side) -> an image that timm turns into the same square, and that is no endless strip.
    fills: whether the square has pixels beyond the image.
    """

    word: str
    make: Callable[[Image.Image, int, tuple[int, ...]], Image.Image]
    shown: Callable[[Sides], Sides]
    tame: Callable[[Image.Image, int], Image.Image]
    fills: bool = False


def centre(image: Image.Image, longest: int = 16) -> Image.Image:
    """Cut a strip to its middle; other images stay as they are.

    A strip of 1 x 3000 pixels, resized to a width of 512, would have 1.5 million rows. Resizing the shorter
    side and cropping the centre afterwards gives the same pixels with and without this cut.

    Args:
        image: any image.
        longest: the least longer side of the middle, as a multiple of the shorter side.
    """
    short, long = sorted(image.size)
    # Whole multiples of the shorter side on both ends keep the grid of the resized pixels.
    cut = max(0, long - longest * short) // (2 * short) * short
    left, top = (cut, 0) if image.width == long else (0, cut)
    return image.crop((left, top, image.width - left, image.height - top)) if cut else image


def fitted(image: Image.Image, side: int) -> Image.Image:
    """Resize an image so that its longer side has `side` pixels."""
    return image.resize(fitted_size(image.size, side), Image.Resampling.BICUBIC)


def fitted_size(sides: Sides, side: int) -> Sides:
    """The sides of an image after `fitted`, rounded as in timm, but never to zero."""
    ratio = max(sides) / side
    width, height = (max(1, round(own / ratio)) for own in sides)
    return width, height


def squash(image: Image.Image, side: int, colour: tuple[int, ...]) -> Image.Image:
    """Resize an image to a square; its aspect changes."""
    return image.resize((side, side), Image.Resampling.BICUBIC)


def pad(image: Image.Image, side: int, colour: tuple[int, ...]) -> Image.Image:
    """The whole image in the middle of a square of one colour."""
    image, square = fitted(image, side), Image.new(image.mode, (side, side), colour)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


SQUARES: dict[str, Square] = {
    "centre": Square(
        "center",
        make=lambda image, side, colour: ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC),
        shown=lambda sides: (min(sides), min(sides)),
        tame=lambda image, side: centre(image),
    ),
    "squash": Square("squash", squash, shown=lambda sides: sides, tame=lambda image, side: image),
    "pad": Square("border", pad, shown=lambda sides: (max(sides), max(sides)), tame=fitted, fills=True),
}


def transform_of(crop_mode: str) -> dict:
    """A value of `data.crop_mode` as timm's transform takes it."""
    return {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": SQUARES[crop_mode].word}


def square_called(word: str) -> Square:
    """The square that timm's configurations call `word`."""
    return next(square for square in SQUARES.values() if square.word == word)
