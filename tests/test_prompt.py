"""What reaches the terminal and the disk: printable lines, unique names of files."""

import unicodedata
import warnings
from pathlib import Path

import pytest

from dtram_hub.output_names import LONGEST, unique_names
from dtram_hub.prompt import ending_in_a_sentence, printable, say

HOSTILE = {
    "\x1b[2Jcleared": r"\x1b[2Jcleared",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "two\nlines\r": r"two\nlines\r",
    "\x9b31mred": r"\x9b31mred",
    "exe.\u202egpj": r"exe.\u202egpj",
    "bytes \udcff": r"bytes \udcff",
    "line\u2028break": r"line\u2028break",
    "Grünspecht 鶯 🐦": "Grünspecht 鶯 🐦",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_nothing_to_obey(text: str, capsys: pytest.CaptureFixture) -> None:
    assert printable(text) == HOSTILE[text]
    say(text)
    with pytest.raises(SystemExit, match=r"^prog: ") as ended, ending_in_a_sentence("prog"):
        raise ValueError(text)
    assert capsys.readouterr().out == HOSTILE[text] + "\n"
    assert str(ended.value).isprintable()


def test_an_interrupted_program_has_nothing_to_show(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended, ending_in_a_sentence("prog"):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "prog: interrupted.\n"


def test_a_warning_is_a_sentence_of_the_program(capsys: pytest.CaptureFixture) -> None:
    with ending_in_a_sentence("prog"):
        warnings.warn("An image is small.", stacklevel=1)
    assert capsys.readouterr().err == "prog: An image is small.\n"


def names_of(*paths: str) -> list[str]:
    return list(unique_names(map(Path, paths), "_glimpses.png").values())


def test_output_names_are_short_where_they_can_be() -> None:
    assert names_of("A/x.png", "A/y.png") == ["x_glimpses.png", "y_glimpses.png"]
    assert names_of("A/x.png", "A/x.png") == ["x_glimpses.png"]


def test_output_names_show_the_folders_of_equal_names() -> None:
    assert names_of("A/x.png", "B/x.png") == ["A_x.png_glimpses.png", "B_x.png_glimpses.png"]
    assert names_of("d/x.png", "d/x.jpg", "d/y.jpg") == [
        "x.png_glimpses.png",
        "x.jpg_glimpses.png",
        "y_glimpses.png",
    ]
    assert names_of("/far/a/X.png", "/far/b/x.png") == ["a_X.png_glimpses.png", "b_x.png_glimpses.png"]
    assert names_of("a_b/x.png", "a/b_x.png", "b/x.png", "a_b_x/x.png")[0] == "a_b_x.png_glimpses.png"


@pytest.mark.parametrize(
    "paths",
    [
        ["A/x.png", "B/x.png", "A_x.png", "A_x.jpg", "c/A_x.png"],
        ["x.png", "X.PNG", "x.Png"],
        ["a/ä.png", "b/" + unicodedata.normalize("NFD", "ä") + ".png", "Ä.png"],
        [f"{'long' * 62}{i}.png" for i in range(12)],
        ["ß" * 126 + ".png", "ẞ" * 83 + "x.png", "ss" * 126 + ".png"],
        ["a\nb.png", "a\rb.png", "a_b.png", "a?b.png", "a\udcffb.png"],
        ["x.png", "x_glimpses.png", "x_2_glimpses.png", "x_glimpses.jpg"],
        ["x_2.png", "x.png", "x.jpg", "d/x.png", "d/x_2.png"],
        [".png", "..png", "d/.png"],
    ],
)
def test_output_names_differ_on_every_file_system(paths: list[str], tmp_path: Path) -> None:
    names = names_of(*paths)
    assert len(names) == len(set(paths))
    folded = {unicodedata.normalize("NFC", name).casefold() for name in names}
    assert len(folded) == len(names)
    assert not folded & {Path(path).name.casefold() for path in paths}
    for name in names:
        (tmp_path / name).touch(exist_ok=False)
        assert name.isprintable()
        assert "/" not in name
        assert "\\" not in name
        assert len(name.encode()) <= LONGEST + 8
    assert names_of(*paths) == names
