"""What programs print, and how they end: no text from outside reaches the terminal as it is."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def printable(text: object) -> str:
    """A text on one line, with escapes for characters that a terminal obeys instead of showing.

    Control codes, line breaks, bidirectional controls and bytes that are no UTF-8 get escapes as in Python's
    `repr`: a file's name, a label or a metric can neither clear the screen nor pretend to be another line.
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def one_line(text: object, longest: int | None = None) -> str:
    """A text, such as an error's, with its lines joined, and cut to `longest` characters."""
    return " ".join(str(text).split())[:longest]


def say(text: object, *, error: bool = False) -> None:
    """Print one printable line at once, on stdout or, for an `error`, on stderr."""
    stream = sys.stderr if error else sys.stdout
    encoding = stream.encoding or "utf-8"
    line = printable(text).encode(encoding, "backslashreplace").decode(encoding)
    print(line, file=stream, flush=True)


@contextmanager
def plain_warnings(program: str = "dtram") -> Iterator[None]:
    """Show warnings as sentences of the program, without the line of code that gave them."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"{program}: {message}", error=True)
        yield


def sentence_of(program: str, error: BaseException) -> str:
    """The last line of a program that ends with `error`."""
    return printable(f"{program}: {one_line(error) or type(error).__name__}")


@contextmanager
def ending_in_a_sentence(program: str, interrupted: str = "interrupted.") -> Iterator[None]:
    """End a program after a mistake of its user with one sentence on stderr, in place of a traceback.

    The exit code is 1. After Ctrl-C or another signal it is 128 and the signal's number, and the sentence is
    `interrupted`. A reader of stdout that has gone, such as `head`, needs no word. Warnings become sentences,
    too.
    """
    try:
        with plain_warnings(program):
            yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        sys.exit(1)
    except KeyboardInterrupt as stop:
        say(f"{program}: {interrupted}", error=True)
        sys.exit(128 + getattr(stop, "number", signal.SIGINT))
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(sentence_of(program, error))
