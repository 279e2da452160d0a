"""What a push makes public: it is named before it is sent, and the licence is stated by the owner alone."""

import shutil
from pathlib import Path

import pytest

import dtram_hub
from dtram_hub.models.registry import WEIGHTS
from hub_faults import REPO, TOKEN, make_model
from loopback_hub import LoopbackHub

SHIPPED = WEIGHTS / "dtram_glimpse_mlp.mnist_dtram98"


def files(hub: LoopbackHub, repo_id: str = REPO) -> dict[str, bytes]:
    return hub.repos["models", repo_id].files


def make_run(folder: Path) -> Path:
    """The shipped run with two pictures."""
    shutil.copytree(SHIPPED, folder)
    for name in ("glimpses.png", "steps.png"):
        (folder / name).write_bytes(b"picture " + name.encode())
    return folder


def test_a_push_says_what_becomes_public(
    hub: LoopbackHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run")
    with caplog.at_level("INFO", "dtram_hub"):
        dtram_hub.push(run, REPO, token=TOKEN)
        named, shown, licence = caplog.messages
        assert named.startswith(f"To {REPO}, which everyone can read: .eval_results/dtram.yaml, README.md, ")
        sent = set(named.partition("read: ")[2].removesuffix(".").split(", "))
        assert {*sent, ".gitattributes"} == set(files(hub))
        assert shown.startswith("Pictures that show images of the data: 1 (glimpses.png); pictures=False (")
        assert licence.startswith("README.md states no licence")
        assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING"]
        caplog.clear()
        dtram_hub.push(run, REPO, token=TOKEN, license="mit", pictures=False)
        (named,) = caplog.messages
        assert ".png" not in named
        caplog.clear()
        make_model(1).push_to_hub("me/secret", token=TOKEN, private=True, license="cc-by-4.0")
        assert caplog.messages == [
            "To me/secret, which is private: README.md, config.json, model.safetensors."
        ]
    assert "license: cc-by-4.0" in files(hub, "me/secret")["README.md"].decode()
    assert not [name for name in files(hub) if name.endswith(".png")]  # those of the first push are gone
    card = files(hub)["README.md"].decode()
    assert "\nlicense: mit\n" in card
    assert ".png" not in card


def test_a_card_of_ones_own_is_not_contradicted(hub: LoopbackHub, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    own = run / "README.md"
    own.write_text("---\nlicense: mit\n---\n![a](glimpses.png)")
    for words, message in [
        ({"license": "gpl-3.0"}, r"license='gpl-3.0', but '.*README\.md' states 'mit'; change it there"),
        ({"pictures": False}, r"pictures=False, but '.*README\.md' shows glimpses\.png; remove it there"),
        ({"license": "MIT licence"}, r"^license='MIT licence' is no licence as the Hub writes them"),
        ({"pictures": 0}, "pictures=0 is neither True nor False"),
    ]:
        with pytest.raises(ValueError, match=message):
            dtram_hub.push(run, REPO, token=TOKEN, **words)
    own.write_text("---\nlicense: [\n---\n")
    with pytest.raises(ValueError, match=r"README\.md' has metadata that are no YAML"):
        dtram_hub.push(run, REPO, token=TOKEN)
    assert hub.requests == []
    own.write_text("---\nlicense: mit\n---\nmine")
    dtram_hub.push(run, REPO, token=TOKEN, license="mit", pictures=False)
    assert files(hub)["README.md"] == own.read_bytes()


def test_the_hub_refuses_a_licence_that_it_does_not_know(hub: LoopbackHub) -> None:
    with pytest.raises(
        ValueError, match=r"^repo_id='me/model': the Hub refuses the card: .*\"license\" must be"
    ):
        dtram_hub.push(make_model(1), REPO, token=TOKEN, license="my-own")
    assert set(files(hub)) == {".gitattributes"}
