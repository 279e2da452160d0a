"""Records move rows, and nothing else."""

import pytest
import torch

from dtram_hub.models.records import Noise, State


def state(count: int, looks: int = 2, rows: bool = False) -> State:
    return State(
        torch.randn(count, 3),
        torch.tensor(looks),
        torch.randn(count, 4),
        (torch.randn(count, 5, 2), torch.rand(count, 5) > 0.5),
        (torch.randn(count, 5),),
        torch.arange(count) * 10 if rows else None,
    )


def tensors(found: State) -> list[torch.Tensor]:
    return [found.hidden, found.own, *found.fixed, *found.memory]


@pytest.mark.parametrize("rows", [False, True])
def test_index_takes_rows_of_everything_and_remembers_their_images(rows: bool) -> None:
    whole, mask = state(4, rows=rows), torch.tensor([True, False, False, True])
    found = whole.index(mask)
    assert all(torch.equal(a, b[mask]) for a, b in zip(tensors(found), tensors(whole), strict=True))
    assert found.rows.tolist() == ([0, 30] if rows else [0, 3])
    again = found.index(torch.tensor([1]))
    assert again.rows.tolist() == ([30] if rows else [3])
    assert torch.equal(again.hidden, whole.hidden[3:])
    assert again.looks == 2


def test_repeat_makes_neighbours_of_one_image() -> None:
    whole = state(3)
    found = whole.repeat(2)
    assert found.rows.tolist() == [0, 0, 1, 1, 2, 2]
    expected = [tensor.repeat_interleave(2, 0) for tensor in tensors(whole)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(found), expected, strict=True))
    assert whole.repeat(1) is whole


def test_cat_keeps_the_looks_of_each_row() -> None:
    parts = [state(2, 1, rows=True), state(3, 4, rows=True)]
    found = State.cat(parts)
    assert found.looks.tolist() == [1, 1, 4, 4, 4]
    assert found.rows.tolist() == [0, 10, 0, 10, 20]
    expected = [torch.cat(pair) for pair in zip(*map(tensors, parts), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(tensors(found), expected, strict=True))
    assert found.index(torch.tensor([0, 4])).looks.tolist() == [1, 4]


def test_over_time_puts_steps_in_front() -> None:
    steps = [state(2, t) for t in range(3)]
    found = State.over_time(steps)
    assert found.looks.tolist() == [[0], [1], [2]]
    assert torch.equal(found.hidden[1], steps[1].hidden)
    assert torch.equal(found.memory[0][2], steps[2].memory[0])
    assert torch.equal(found.fixed[0][0], steps[2].fixed[0])  # set once, the same at all steps


def test_noise_is_that_of_the_whole_batch_whatever_the_number_of_processes() -> None:
    def draw(share: slice) -> Noise:
        return Noise.draw(6, 2, 3, 2, torch.Generator().manual_seed(1), share)

    whole = draw(slice(None))
    assert whole.location.shape == (12, 3, 2)
    assert whole.stop.shape == (12, 3)
    for world in (2, 3):
        for rank in range(world):
            share = draw(slice(rank, None, world))
            rows = torch.arange(12).view(6, 2)[rank::world].flatten()
            assert torch.equal(share.location, whole.location[rows])
            assert torch.equal(share.stop, whole.stop[rows])
    assert len(whole.location.unique()) == whole.location.numel()
    assert 0 < whole.location.min() <= whole.location.max() < 1
