"""Messages of this package on the screen, as plain lines."""

import logging
import re
from typing import TextIO

from ..prompt import printable


def show_messages(stream: TextIO) -> None:
    """Write the package's messages of level INFO and above to a stream. Only programs call this function."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainLines())
    logger = logging.getLogger("dtram_hub")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


class PlainLines(logging.Formatter):
    """Formats a record as its message alone, on one printable line."""

    def format(self, record: logging.LogRecord) -> str:
        # Some versions of accelerate put the rank of the main process before its messages.
        return printable(re.sub(r"^\[RANK \d+\] ", "", record.getMessage()))
