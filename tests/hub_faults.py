"""What becomes of a push and a pull when the Hub fails: every fault at every request, once and for good.

    python tests/hub_faults.py

prints the table of docs/hub_failures.md. Waiting is left out, so that all of it takes half a minute.
"""

import itertools
import re
import tempfile
import time

if __name__ == "__main__":
    import conftest

import timm
import torch
from torch import nn

import dtram_hub
from loopback_hub import Fault, LoopbackHub

REPO, TOKEN = "me/model", "hf_loopback"
FAULTS = {
    "500": Fault("status", 500),
    "429, Retry-After 2": Fault("status", 429, retry_after="2"),
    "dropped before": Fault("unheard"),
    "dropped after": Fault("lost"),
    "dropped half-way": Fault("half"),
    "slow": Fault("slow", pause=0.01),
    "too short": Fault("size"),
}
PUSH = (
    "create",
    "refs",
    "info",
    "validate_yaml",
    "preupload",
    "lfs_batch",
    "lfs_upload",
    "lfs_verify",
    "commit",
    "tag",
)
PULL = ("info", "tree", "head", "download")
CASES = [
    *(("push", kind, fault) for kind, fault in itertools.product(PUSH, FAULTS)),
    ("push", "commit", "overtaken"),
    *(
        ("pull", kind, fault)
        for kind, fault in itertools.product(PULL, FAULTS)
        if kind != "head" or fault[0] != "t"
    ),
    ("pull", "download", "corrupt"),
]
FAULTS |= {"overtaken": Fault("overtaken"), "corrupt": Fault("corrupt")}
FOR_GOOD = 100


def make_model(seed: int) -> nn.Module:
    """A small DT-RAM whose weights depend on the seed."""
    torch.manual_seed(seed)
    views = {"image_size": 16, "context": "none", "glimpse_crop": 8, "hidden_size": 8, "aggregate": "last"}
    return timm.create_model("dtram", backbone="glimpse_convnet", num_classes=3, in_chans=1, **views).eval()


def push_through(hub: LoopbackHub, kind: str, fault: str, times: int) -> str:
    """Push a second model over a first one while a request of this kind fails; what came of it."""
    hub.clear()
    first, second = make_model(1), make_model(2)
    dtram_hub.push(first, REPO, token=TOKEN)
    before = dict(hub.repos["models", REPO].files)
    hub.faults[kind] = [FAULTS[fault]] * times
    outcome = _attempt(lambda: dtram_hub.push(second, REPO, token=TOKEN, tag="v1"))
    hub.faults.clear()
    repo = hub.repos["models", REPO]
    commits = [title for _, title in repo.history if title.startswith("Upload")]
    others = {name: content for name, content in repo.files.items() if name == "NOTES.md"}
    if len(commits) == 1:
        assert repo.files == before | others, "half-written"
        assert outcome != "succeeds"
        return f"{outcome}; nothing pushed"
    dtram_hub.push(second, REPO, token=TOKEN)  # changes nothing, if all of it has arrived
    assert len(commits) == len([t for _, t in repo.history if t.startswith("Upload")]) == 2, "half-written"
    assert set(repo.files) == {*before, *others}
    return outcome if repo.tags else f"{outcome}; pushed, not tagged"


def pull_through(hub: LoopbackHub, kind: str, fault: str, times: int) -> str:
    """Pull a model into an empty cache while a request of this kind fails; what came of it."""
    hub.clear()
    model, images = make_model(3), torch.rand(2, 1, 16, 16)
    dtram_hub.push(model, REPO, token=TOKEN)
    hub.faults[kind] = [FAULTS[fault]] * times
    with tempfile.TemporaryDirectory() as cache:
        found = []
        outcome = _attempt(lambda: found.append(dtram_hub.pull(REPO, cache_dir=cache)))
        assert all(torch.equal(pulled(images), model(images)) for pulled in found)
        hub.faults.clear()
        # timm checks nothing, so whatever is left in the cache must be right.
        later = timm.create_model(f"hf-hub:{REPO}", pretrained=True, cache_dir=cache).eval()
        assert torch.equal(later(images), model(images)), "a bad file is left in the cache"
    return outcome


def _attempt(action) -> str:
    try:
        action()
    except (ValueError, PermissionError, ConnectionError) as error:
        message = str(error)
        assert "\n" not in message, message
        assert TOKEN not in message, message
        return f"{type(error).__name__}: {message}"
    return "succeeds"


def run(hub: LoopbackHub, action: str, kind: str, fault: str, times: int) -> str:
    """One case."""
    return {"push": push_through, "pull": pull_through}[action](hub, kind, fault, times)


def print_table(hub: LoopbackHub) -> None:
    """One row for each request: what comes of every fault, when it happens once and when it stays."""
    for action, kinds in {"push": PUSH, "pull": PULL}.items():
        faults = list(dict.fromkeys(fault for name, _, fault in CASES if name == action))
        print(f"| {action} | {' | '.join(faults)} |\n|---|{'---|' * len(faults)}")
        for kind in kinds:
            cells = []
            for fault in faults:
                if (action, kind, fault) not in CASES:
                    cells.append("")
                    continue
                found = [run(hub, action, kind, fault, times) for times in (1, FOR_GOOD)]
                cells.append(" / ".join(_short(outcome) for outcome in found))
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)
    print("\n".join(f"- {number}: {text}" for text, number in _sentences.items()).replace(hub.url, "the Hub"))


def _short(outcome: str) -> str:
    """ "ok", or the number of a sentence."""
    outcome = re.sub(r"[0-9a-f]{40}", "...", outcome)
    return "ok" if outcome == "succeeds" else str(_sentences.setdefault(outcome, len(_sentences) + 1))


_sentences: dict[str, int] = {}


if __name__ == "__main__":
    time.sleep = lambda seconds: None
    print_table(conftest.HUB)
