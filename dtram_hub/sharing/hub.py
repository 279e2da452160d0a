"""The old name of `push` and `pull`, until nothing asks for it."""

from .pull import copy, download, pull
from .push import push

__all__ = ["copy", "download", "pull", "push"]
