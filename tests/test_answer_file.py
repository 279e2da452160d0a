"""Answers in files: whole tables, calls that go on where they were cut off, and words that name images."""

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from dtram_hub.cli.answer_file import AnswerFile
from dtram_hub.cli.inputs import expand

DIGITS = "dtram_glimpse_mlp.mnist_dtram98"


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_answers_go_into_a_table(dtram, images: list[Path], tmp_path: Path, ending: str) -> None:
    out, broken = tmp_path / "new" / f"answers.{ending}", tmp_path / "broken.png"
    broken.write_bytes(b"none")
    words = ("predict", DIGITS, tmp_path, "--out", out, "--top", 3, "--precision", "float32")
    code, printed, complaint = dtram(*words)
    assert (code, printed) == (1, f"{out}\n")
    assert f"{broken} is no readable image" in complaint
    rows = read(out)
    assert [row["image"] for row in rows] == sorted(map(str, [*images, broken]))
    whole = [row for row in rows if not row.get("error")]
    assert len(whole) == 3
    alone = json.loads(dtram("predict", DIGITS, images[0], "--json", "--top", 3)[1])
    row = next(row for row in whole if row["image"] == str(images[0]))
    assert [row["class"], int(row["steps"])] == [alone["class"], alone["steps"]]
    top = json.loads(row["top"]) if ending == "csv" else row["top"]
    assert [each["index"] for each in top] == [each["index"] for each in alone["top"]]
    assert [each["confidence"] for each in top] == sorted((e["confidence"] for e in top), reverse=True)
    assert not [*out.parent.glob("*.part"), *out.parent.glob("*.tmp")]
    code, _, complaint = dtram(*words)
    assert code == 1
    assert f"--out={str(out)!r} exists already; accepted is a new file." in complaint


def test_a_call_that_was_cut_off_goes_on(dtram, images: list[Path], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    given = [*images, images[0]]  # an image that is named twice has two answers
    assert dtram("predict", DIGITS, *given, "--out", whole)[0] == 0
    call = {"stop_threshold": None, "mean_steps": None, "max_steps": None, "top": 1, "precision": None}
    header = json.dumps({"answers of": {"model": DIGITS} | call})
    kept = whole.read_text().splitlines()[:2]
    marked = json.dumps(json.loads(kept[0]) | {"class": "kept"})
    part = out.with_name("cut.jsonl.part")
    part.write_text("\n".join([header, marked, kept[1], '{"image": "cut o']))
    assert dtram("predict", DIGITS, *given, "--out", out)[0] == 0
    assert out.read_text().splitlines() == [marked, *whole.read_text().splitlines()[1:]]
    part.write_text(header + "\n")
    code, _, complaint = dtram("predict", DIGITS, *given, "--out", out.with_name("other.jsonl"), "--top", 2)
    assert code == 0
    out.unlink()
    code, _, complaint = dtram("predict", DIGITS, *given, "--out", out, "--top", 2)
    assert code == 1
    assert "holds answers of another call" in complaint
    part.write_text("no json\n")
    assert "is damaged; remove it" in dtram("predict", DIGITS, *given, "--out", out)[2]
    assert "ends in none of .jsonl, .csv, .parquet" in dtram("predict", DIGITS, *given, "--out", "a.txt")[2]


def test_a_process_that_has_finished_waits_for_no_other(tmp_path: Path) -> None:
    shard = tmp_path / "answers.00000-of-00002.jsonl"
    shard.write_text('{"image": "a.png"}\n')
    done = AnswerFile(tmp_path / "answers.jsonl", {}, 0, 2)
    assert done.left_of([Path("a.png"), Path("b.png")]) == []
    assert done.finish() == shard
    assert read(shard) == [{"image": "a.png"}]
    other = AnswerFile(tmp_path / "answers.jsonl", {}, 1, 2)
    assert other.left_of([Path("b.png")]) == [Path("b.png")]
    other.write({"image": "b.png"})
    other.close()
    again = AnswerFile(tmp_path / "answers.jsonl", {}, 1, 2)
    assert again.left_of([Path("b.png"), Path("c.png")]) == [Path("c.png")]


def test_words_name_files_folders_patterns_and_tables(images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "deep").mkdir()
    inner = images[2].rename(tmp_path / "deep" / "inner.PNG")
    table = tmp_path / "list.csv"
    table.write_text("image,label\none.png,3\ndeep/inner.PNG,4\n")
    assert expand([str(tmp_path)]) == sorted([*images[:2], inner])
    assert expand([str(images[1]), str(tmp_path / "*.png")]) == [images[1], *sorted(images[:2])]
    assert expand([str(table)]) == [images[0], inner]
    parquet.write_table(pyarrow.table({"path": ["two.png"]}), tmp_path / "list.parquet")
    assert expand([str(tmp_path / "list.parquet")]) == [images[1]]
    (tmp_path / "empty").mkdir()
    table.write_text("label\n3\n")
    for word, message in [
        ("nowhere*.png", "does not exist"),
        (str(tmp_path / "empty"), "holds no images"),
        (str(table), "has the columns label; accepted is one of image, path"),
    ]:
        with pytest.raises(ValueError, match=message):
            expand([word])
    (tmp_path / "bad.parquet").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"bad\.parquet' is no table \("):
        expand([str(tmp_path / "bad.parquet")])
