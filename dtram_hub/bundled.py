"""Files outside of `dtram_hub` in a checkout, which an installed package holds inside."""

from pathlib import Path


def bundled(name: str) -> Path:
    """The path of such a file, for example "training/train.py" or "model_cards/template.md"."""
    package = Path(__file__).parent
    return next(path for path in (package / name, package.parent / name) if path.is_file())
