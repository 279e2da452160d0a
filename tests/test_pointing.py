"""Pointing on hand-made boxes and glimpses."""

import torch

from dtram_hub.learning.pointing import oracle, pointing

NONE = [torch.nan] * 4
BOXES = torch.tensor(
    [[[0.0, 0.0, 0.2, 0.4]], [[-1.0, -1.0, -0.8, -0.8]], [NONE]]
)  # centres (0.1, 0.2), (-0.9, -0.9)


def test_a_box_counts_from_the_first_glimpse_that_covers_its_centre() -> None:
    nothing = [torch.nan, torch.nan]
    locations = torch.tensor(
        [[nothing, [0.35, 0.2], [0.9, 0.9]], [nothing, [0.0, 0.0], [-0.7, -1.0]], [nothing, nothing, nothing]]
    )
    assert pointing(locations, BOXES, 0.25) == [0.0, 0.5, 1.0]
    assert pointing(locations, BOXES, 0.24) == [0.0, 0.0, 0.5]


def test_any_of_several_boxes_counts_and_images_without_boxes_do_not() -> None:
    boxes = torch.cat([BOXES, BOXES.roll(1, 0)], dim=1)  # the first image has one box, the third another's
    locations = torch.tensor([[[-0.9, -0.9]], [[0.1, 0.2]], [[-0.9, -0.9]]])
    assert pointing(locations, boxes, 0.05) == [2 / 3]
    assert pointing(locations, torch.full_like(boxes, torch.nan), 2.0) is None


def test_the_oracle_moves_one_glimpse_to_the_truth() -> None:
    locations = torch.rand(3, 3, 2)
    moved = oracle(locations, BOXES, 1)
    torch.testing.assert_close(moved[:2, 1], torch.tensor([[0.1, 0.2], [-0.9, -0.9]]))
    assert torch.equal(moved[2], locations[2])
    assert torch.equal(moved[:, [0, 2]], locations[:, [0, 2]])
    assert pointing(moved, BOXES, 0.01)[1] == 1.0
