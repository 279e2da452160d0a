"""One step by hand (Eq. 3)."""

import pytest
import torch

from dtram_hub import DTRAM


@pytest.mark.parametrize("context", ["resize", "none"])
def test_h_is_made_of_the_view_the_h_before_it_and_the_location(context: str) -> None:
    views = {"image_size": 32, "context": context, "context_size": 12, "glimpse_crop": 12}
    settings = {"hidden_size": 16, "aggregate": "last", "location_input": True}
    model = DTRAM("glimpse_convnet", 5, 1, 3, **views, **settings).eval().requires_grad_(False)
    images, state, hidden = torch.rand(2, 1, 32, 32), None, torch.zeros(2, 16)
    locations = [*torch.rand(3, 2, 2)] if context == "none" else [None, *torch.rand(2, 2, 2)]
    for step, location in enumerate(locations, 1):
        state = model.advance(images, state or model.begin(images), location)
        total = model.see(images, location).features @ model.input_to_hidden.weight.T
        total += model.input_to_hidden.bias + hidden @ model.hidden_to_hidden.weight.T
        if location is not None:
            total += location @ model.location_to_hidden.weight.T
        hidden = total.relu()
        torch.testing.assert_close(state.hidden, hidden)
        assert state.looks == step
        assert hidden.count_nonzero() > 8
