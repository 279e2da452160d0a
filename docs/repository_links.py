"""A hook of MkDocs: pages, pictures and recipes outside of docs/ belong to the site as well.

The site has the tree of the repository, with the content of docs/ at its top. Links are written for the
repository, and so work on GitHub; here they are turned into links of the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = (
    "*.md",
    "benchmarks/README.md",
    "model_cards/README.md",
    "model_cards/dtram_*.md",
    "model_cards/images/*/*",
    "training/recipes/*.yaml",
)
TARGET = re.compile(r"(?<=]\()[^)#\s]+")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of docs/."""
    for path in sorted(path for pattern in OUTSIDE for path in ROOT.glob(pattern)):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn relative links of the repository into those of the site."""
    folder = posixpath.dirname(page.file.src_uri)
    repository_folder = Path(page.file.abs_src_path).parent

    def in_the_site(found: re.Match) -> str:
        path = (repository_folder / found[0]).resolve()
        if not path.is_relative_to(ROOT) or not path.is_file():
            return found[0]
        place = path.relative_to(ROOT).as_posix().removeprefix("docs/")
        return posixpath.relpath(place, folder)

    return TARGET.sub(in_the_site, markdown)
