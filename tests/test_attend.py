"""The location policy that reads the feature map, and the answer that pools evidence over places."""

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from conftest import make_undecided
from dtram_hub import DTRAM
from dtram_hub.learning.losses import LossConfig, dtram_loss
from dtram_hub.models.glimpse import covers
from dtram_hub.models.location import OUTSIDE, shares
from dtram_hub.models.records import Noise, Seen, State
from graphs import check_looks, check_whole_graphs

BACKBONES = ["test_efficientnet", "test_vit", "test_convnext"]


def build(backbone: str = "test_efficientnet", **changes) -> DTRAM:
    words = {
        **{"num_classes": 4, "num_steps": 3, "image_size": 96, "context": "resize", "context_size": 64},
        **{"glimpse_crop": 32, "hidden_size": 16, "aggregate": "evidence", "locator": "attend"},
    }
    model = DTRAM(backbone, **words | changes).eval()
    return make_undecided(model, torch.randn(6, model.in_chans, 96, 96))


def planned(model: DTRAM, images: torch.Tensor) -> tuple[State, tuple[torch.Tensor, ...]]:
    state = model.advance(images, model.begin(images), None)
    return state, model.locator.plan(state)


@pytest.mark.parametrize("locator", ["attend", "aim"])
def test_samples_fit_the_density_and_its_gradients_fit_differences(locator: str) -> None:
    model, images, std = build(locator=locator), torch.randn(1, 3, 96, 96), 0.2
    model.requires_grad_(False)
    _, plan = planned(model, images)
    wide = tuple(part.expand(40_000, *part.shape[1:]) for part in plan)
    found = model.locator.sample(wide, torch.rand(40_000, 3).clamp(min=1e-6), std)
    counted = torch.histogramdd(found, bins=[8, 8], range=[-1.5, 1.5, -1.5, 1.5]).hist / len(found)
    fine = (torch.arange(240) + 0.5) / 80 - 1.5
    policy = model.locator.distribution(plan, std)
    density = policy.log_prob(torch.cartesian_prod(fine, fine)[:, None]).exp().view(8, 30, 8, 30)
    torch.testing.assert_close(counted, density.mean((1, 3)) * (3 / 8) ** 2, rtol=0, atol=6e-3)

    scores, centres, point = plan[0].double(), plan[1].double(), found[:1].double()

    def log_prob(*values: torch.Tensor) -> torch.Tensor:
        return model.locator.distribution(values, std).log_prob(point).sum()

    assert torch.autograd.gradcheck(log_prob, (scores.requires_grad_(True), centres.requires_grad_(True)))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("aggregate", ["evidence", "residual", "last"])
def test_greedy_glimpses_go_to_the_best_cell_that_none_has_covered(backbone: str, aggregate: str) -> None:
    model, images = build(backbone, aggregate=aggregate), torch.randn(6, 3, 96, 96)
    with torch.no_grad():
        state, (scores, centres) = planned(model, images)
        assert scores.shape[1] == 16  # 64 pixels in cells of 16
        for _ in range(2):
            location = model.best_location(state)
            rows = torch.arange(6)
            assert torch.equal(location, centres[rows, scores.argmax(1)])
            state = model.advance(images, state, location)
            scores = model.locator.plan(state)[0]
            covered = ((centres - location[:, None]).abs() <= 32 / 96).all(-1)
            assert (scores[covered] <= OUTSIDE).all()
        assert (scores > OUTSIDE).any(1).all()
        rollout, found = model.rollout(images), model.predict(images, stop_threshold=1.0)
    torch.testing.assert_close(found.locations, rollout.locations, equal_nan=True, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.logits, rollout.logits[:, -1], rtol=1e-4, atol=1e-4)


def test_a_glimpse_may_lie_aside_of_its_cells_centre_which_it_covers() -> None:
    model, images = build(locator="aim", num_steps=6), torch.randn(6, 3, 96, 96)
    locator, rows = model.locator, torch.arange(6)
    state, (scores, points) = planned(model, images)
    of_cell, _, centres, _, reach, *_ = state.fixed
    aside = torch.tanh(of_cell + locator.of_hidden(state.hidden)[:, None])
    assert 0.01 < aside.abs().mean() < 0.99
    torch.testing.assert_close(points, centres + 0.99 * 32 / 96 * aside)
    for parameter in locator.of_hidden.parameters():
        torch.nn.init.constant_(parameter, 20.0)  # tanh is 1, as far aside as may be
    with torch.no_grad():
        for _ in range(3):
            scores, _ = locator.plan(state)
            location = model.best_location(state)
            assert location.abs().max() <= 1
            assert covers(location, centres, reach)[rows, scores.argmax(1)].all()
            state = model.advance(images, state, location)
    locator.reset()
    _, points = planned(model, images)[1]
    assert torch.equal(points, centres)


def test_shares_are_the_posterior_of_the_place() -> None:
    evidence, own = torch.tensor([[[2.0, 0.0], [0.0, 0.0], [0.0, 3.0]]]), torch.tensor([[1.0, 0.0]])
    free = torch.tensor([[True, True, False]])
    classes, first = own.softmax(-1)[0], torch.tensor([2.0, 0.0]).softmax(0)
    expected = classes[0] * first + classes[1] * torch.tensor([0.5, 0.5])
    found = shares(evidence, free, own).exp()[0]
    torch.testing.assert_close(found[:2], expected)
    assert found[2] == 0


def test_evidence_by_hand() -> None:
    """Two cells and a glimpse on the second: the first cell and the glimpse count, each for half."""
    model = build()
    answer = model.answer
    evidence = torch.tensor([[[1.0, 2.0, 0.0, 0.0], [5.0, 0.0, 0.0, 0.0]]])
    centres, valid = torch.tensor([[[-0.5, 0.0], [0.5, 0.0]]]), torch.ones(1, 2, dtype=torch.bool)
    features, reach = torch.randn(1, answer.of_glimpse.in_features), torch.full((1, 1, 2), 0.3)
    own, kept = answer.begin(Seen(features, None, None, centres, valid, evidence, reach))
    torch.testing.assert_close(own, evidence.exp().mean(1).log())
    state = State(torch.zeros(1, 16), torch.tensor(1), own, kept=kept)
    own, kept = answer.update(state, Seen(features), torch.tensor([[0.4, 0.1]]), torch.tensor(2))
    glimpse = answer.of_glimpse(features)[0]
    torch.testing.assert_close(own[0], (evidence[0, 0].exp() / 2 + glimpse.exp()).log())
    again = State(torch.zeros(1, 16), torch.tensor(2), own, kept=kept)
    own, _ = answer.update(again, Seen(features), torch.tensor([[0.4, 0.1]]), torch.tensor(3))
    torch.testing.assert_close(own[0], (evidence[0, 0].exp() / 2 + 2 * glimpse.exp()).log())


def test_glimpses_alone_answer_and_are_supervised() -> None:
    model, images, labels = build(dynamic=False), torch.randn(3, 3, 96, 96), torch.tensor([0, 3, 1])
    record = model.rollout(images)
    expected = torch.full((3, 4), -torch.inf)
    for step in (1, 2):
        seen = model.see(images, record.locations[:, step])
        expected = torch.logaddexp(expected, model.answer.of_glimpse(seen.features))
        torch.testing.assert_close(record.glimpse_logits[:, step], expected, rtol=1e-4, atol=1e-4)
    alone = sum(F.cross_entropy(record.glimpse_logits[:, step], labels) for step in (1, 2))
    losses = [
        dtram_loss(record, labels, LossConfig(glimpse_weight=weight), dynamic=False).classification
        for weight in (0.0, 0.5)
    ]
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * alone, rtol=1e-4, atol=1e-5)


def test_cells_outside_of_the_image_do_not_count() -> None:
    model = build()
    seen = model.see(torch.randn(2, 3, 96, 96), None)
    valid = torch.rand(2, 16) < 0.5
    valid[:, 0] = True
    own, _ = model.answer.begin(
        Seen(seen.features, None, None, seen.centres, valid, seen.evidence, seen.reach)
    )
    for row in range(2):
        torch.testing.assert_close(own[row], seen.evidence[row, valid[row]].exp().mean(0).log())


def test_a_glimpse_covers_what_lies_within_its_sides() -> None:
    centres = torch.tensor([[[0.0, 0.0], [0.2, -0.2], [0.21, 0.0], [0.0, -0.3]]])
    assert covers(torch.zeros(1, 2), centres, 0.2).tolist() == [[True, True, False, False]]


@pytest.mark.long
@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_compiles_in_one_graph_and_exports(backbone: str) -> None:
    check_whole_graphs(build(backbone, dynamic=False), torch.randn(5, 3, 96, 96))


def test_its_looks_export_with_what_they_remember() -> None:
    check_looks(build(), torch.randn(5, 3, 96, 96))


def test_the_same_noise_in_parts_and_at_once() -> None:
    """Recorded actions of two halves of a batch, replayed at once."""
    model, images = build(), torch.randn(4, 3, 96, 96)
    noise = Noise.draw(4, 2, 3, model.locator.noise_columns, torch.Generator().manual_seed(5))
    whole = model.rollout(images, sample=True, num_rollouts=2, noise=noise)
    for half in (slice(0, 2), slice(2, 4)):
        rows = slice(2 * half.start, 2 * half.stop)
        share = Noise(noise.location[rows], noise.stop[rows])
        part = model.rollout(images[half], sample=True, num_rollouts=2, noise=share)
        for name in ("logits", "samples", "location_log_probs", "stop_logits"):
            torch.testing.assert_close(
                getattr(part, name), getattr(whole, name)[rows], rtol=1e-4, atol=1e-5, equal_nan=True
            )


def test_a_new_classifier_reads_evidence_of_the_new_classes() -> None:
    model = build()
    model.reset_classifier(7)
    images = torch.randn(2, 3, 96, 96)
    assert model(images).shape == (2, 7)
    assert model.see(images, None).evidence.shape == (2, 16, 7)
    assert model.forward_features(images).shape[1] == model.num_features == 16 + 7
    model.reset_classifier(0)
    assert model(images).shape == (2, 16)


def test_an_encoder_of_the_contexts_own_ends_at_its_map() -> None:
    model, images = build(context_encoder="own"), torch.randn(5, 3, 96, 96)
    model.requires_grad_(False)
    names = {name.split(".")[1] for name, _ in model.context_encoder.named_parameters() if "blocks" in name}
    assert names == {"0", "1", "2", "3"}  # of five stages, of which the last has cells of 32 pixels
    before = model.advance(images, model.begin(images), None)
    torch.nn.init.normal_(model.encoder.conv_stem.weight)
    after = model.advance(images, model.begin(images), None)
    assert torch.equal(before.own, after.own)  # the other encoder sees glimpses alone
    location = torch.zeros(5, 2)
    torch.nn.init.normal_(model.context_encoder.conv_stem.weight)
    seen = model.see(images, location).features
    torch.testing.assert_close(seen, model.encoder(images[:, :, 32:64, 32:64]), rtol=1e-4, atol=1e-5)
    check_looks(model, images)


def test_both_encoders_start_from_the_same_weights(tmp_path: Path) -> None:
    pretrained = timm.create_model("test_efficientnet", num_classes=5)
    save_file(pretrained.state_dict(), tmp_path / "encoder.safetensors")
    model = build(context_encoder="own")
    model.load_encoder(str(tmp_path / "encoder.safetensors"))
    expected = pretrained.state_dict()
    for encoder in model.encoders:
        assert all(torch.equal(weight, expected[name]) for name, weight in encoder.state_dict().items())


def test_an_encoder_of_its_own_needs_an_answer_without_a_classifier() -> None:
    for words in ({"aggregate": "residual"}, {"aggregate": "last", "context": "none", "locator": "shared"}):
        with pytest.raises(ValueError, match="context_encoder='own' gives a map and no classifier"):
            build(context_encoder="own", **words)


def test_an_encoder_without_a_map_is_refused() -> None:
    for words in ({"locator": "attend"}, {"aggregate": "evidence"}):
        name, value = next(iter(words.items()))
        with pytest.raises(
            ValueError, match=f"{name}={value!r} reads a feature map.*'glimpse_mlp' gives none"
        ):
            DTRAM("glimpse_mlp", 4, 1, 2, 28, "resize", 8, 8, **{"aggregate": "last"} | words)
    with pytest.raises(ValueError, match="aggregate='evidence' needs a context view"):
        build(context="none")


@pytest.mark.parametrize(
    ("size", "cells", "channels"), [(96, 36, 256), (64, 16, 256), (32, 16, 128), (16, 16, 64)]
)
def test_the_map_is_the_deepest_of_16_pixels_a_cell_and_4_cells_a_side(
    size: int, cells: int, channels: int
) -> None:
    model = build("resnet18", image_size=96, context_size=size)
    assert model.see(torch.randn(1, 3, 96, 96), None).cells.shape == (1, cells, channels)
