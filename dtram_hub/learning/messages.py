"""Messages of this package on the screen: plain lines, as a program's own."""

import logging
import re
from typing import TextIO


def show_messages(stream: TextIO) -> None:
    """Write the package's messages from INFO on to a stream. Programs call this; no module does on import."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainLines())
    logger = logging.getLogger("dtram_hub")
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)


class PlainLines(logging.Formatter):
    """The message alone."""

    def format(self, record: logging.LogRecord) -> str:
        # Some versions of accelerate name the process, which is the main one.
        return re.sub(r"^\[RANK \d+\] ", "", record.getMessage())
