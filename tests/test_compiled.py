"""Compiled looks answer as the model does, from a few graphs, whatever the sizes of its batches."""

import pytest
import torch

from conftest import first_of, make_undecided
from dtram_hub import DTRAM
from dtram_hub.inference.compiled import compile_looks
from dtram_hub.inference.stream import stream


@pytest.mark.parametrize(
    "words", first_of([{"aggregate": "evidence", "locator": "attend"}, {"aggregate": "average"}])
)
def test_compiled_looks_answer_as_the_model_does(words: dict) -> None:
    model = DTRAM("test_efficientnet", 3, 3, 3, 96, "resize", 64, 32, hidden_size=16, **words).eval()
    images = torch.randint(0, 256, (13, 3, 96, 96), dtype=torch.uint8)
    make_undecided(model, images)
    expected = model.predict(images, stop_threshold=1.0)
    looks = compile_looks(model, 4)
    found = model.predict(images, stop_threshold=1.0)
    for name in ("logits", "locations", "stop_probs", "features"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-4, equal_nan=True
        )
    list(stream(model, images, batch_size=4))
    for count in range(1, 6):
        model.predict(images[:count])
    assert looks.sizes == [1, 4]
    assert looks.graphs == 4  # of two sizes and two kinds of looks
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= looks.graphs
    del model.encode_view
    assert torch.equal(model.predict(images, stop_threshold=1.0).logits, expected.logits)
    with pytest.raises(ValueError, match="the model is in training mode"):
        compile_looks(model.train(), 4)


@pytest.fixture(autouse=True)
def _without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are recorded as usual, and run without a C++ compiler, which a user's machine may lack."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **words: real(f, dynamic=False, fullgraph=True, backend="aot_eager")
    )
