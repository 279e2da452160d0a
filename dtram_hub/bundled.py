"""Files of the project that are no modules: inside of an installed package, beside it in a checkout."""

from pathlib import Path


def bundled(name: str) -> Path:
    """Where such a file lies: "training/train.py", "model_cards/template.md"."""
    package = Path(__file__).parent
    return next(path for path in (package / name, package.parent / name) if path.is_file())
