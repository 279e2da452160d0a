"""Graphs of a model answer as the model does: compiled, exported whole, exported look by look."""

import torch
from torch import Tensor

from dtram_hub import DTRAM
from dtram_hub.models.export import export_looks


def check_whole_graphs(model: DTRAM, images: Tensor) -> None:
    """A model with a fixed number of looks compiles in one graph, and exports for any batch size."""
    model.requires_grad_(False)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images), rtol=1e-4, atol=1e-4)
    shapes = ({0: torch.export.Dim("batch", max=2**20)},)
    program = torch.export.export(model, (images[:2],), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-4)


def check_looks(model: DTRAM, images: Tensor) -> None:
    """The exported looks of a model of three steps go where its prediction goes, and answer as it does."""
    model.requires_grad_(False)
    found = model.predict(images, stop_threshold=1.0)
    first, following = (program.module() for program in export_looks(model))
    packed, location, _, logits = first(images)
    for step in (1, 2):
        torch.testing.assert_close(location, found.locations[:, step], rtol=1e-4, atol=1e-4)
        packed, location, _, logits = following(images, packed, location, torch.tensor(step))
    torch.testing.assert_close(logits, found.logits, rtol=1e-4, atol=1e-4)
