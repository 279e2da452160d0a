"""DT-RAM: a network that takes several looks at an image, chooses their locations, and decides when to stop.

One `advance` is one step (sections 3.2 and 3.3):

    view_t = the context view at step 1, later a glimpse at location l_t
    f_t    = encoder(view_t)
    h_t    = ReLU(W_x f_t + W_h h_{t-1} [+ W_l l_t])

Four parts read h_t: the answer, the location policy, the stop policy and the baseline. `rollout` takes all T
steps and keeps every tensor, for training. `predict` takes only the steps that each image needs. A RAM, with
a fixed number of steps, is the same network with `dynamic=False`.
"""

import torch
from torch import Tensor, nn

from . import checkpoint, input, seeing
from .answer import ANSWERS, Widths
from .arguments import NATIVE, check_arguments
from .early_exit import predict
from .encoder import create_encoder, cut_after_map, feature_size, map_channels, map_index, reads_locations
from .glimpse import Images
from .input import Given
from .limits import Limits
from .location import LOCATORS, Surroundings
from .preprocessing import own_cfg
from .records import Noise, Prediction, Rollout, Seen, State
from .rollout import rollout
from .stopping import STOPPERS
from .timm_model import TimmModel


class DTRAM(TimmModel):
    """Dynamic Time Recurrent Attention Model around a timm encoder (Li et al. 2017).

    Args:
        backbone: name of the timm model that encodes every view.
        num_classes: C; with 0 the model has no classifier and returns h.
        in_chans: colour channels of the images.
        num_steps: T, the largest number of steps, the first included.
        image_size: side in pixels of the square images that the model is made for, or their longer side with
            context="fit"; a view must fit into it. "native" for images as large as they come; the attribute
            is None then.
        context: the first look. "crop" takes the central `context_size` pixels (section 4.2: 448 of 512).
            "resize" resizes the whole image to `context_size`. "fit" does so and keeps the aspect: what is
            left of the square is zero. "none" makes the first look a glimpse.
        context_size: side of the context view as the encoder sees it.
        glimpse_crop: side of a glimpse in image pixels.
        glimpse_size: side of a glimpse as the encoder sees it; `glimpse_crop` by default.
        glimpse_scales: number of glimpses of growing width around each location, stacked as channels (the
            retina of the original RAM). More than one needs context="none".
        hidden_size: H, the width of h.
        aggregate: the answer. "last" reads the logits off h_t (the paper). "residual" adds a correction, read
            off h_t and zero at first, to the encoder's logits of the context view. "average" adds it to the
            log of the encoder's mean probabilities over all looks. "evidence" adds it to evidence that is
            pooled over the cells of the context and the glimpses, for small things in large images.
        location_std: fixed standard deviation of the location policy, in (0, 2]; 1 is half the image.
        locator: the location policy. "shared" is one linear layer of h_t (the paper). "stepwise" adds to the
            layer, which starts at zero, a location for each step. "attend" chooses a cell of the encoder's
            feature map, and remembers where it has looked. "aim" looks near the cell's centre, where it
            learns to, for first looks of few cells.
        location_input: whether the model reads the location of each glimpse. The encoder reads the location
            if it can, otherwise the core.
        dynamic: whether the stop policy decides; without it every image takes T steps (RAM).
        stopper: the stop policy. "linear" is one linear layer of h_t (the paper). "confidence" is a small
            network of h_t and of the certainty of the answer. "margin" is a small network of the number of
            looks and of the difference between the two largest logits, for few training images.
        stop_threshold: in [0, 1]. A prediction stops at the first step whose stop probability is above it.
        crop_mode: "exact" copies whole pixels, "bilinear" interpolates between them.
        context_encoder: "shared" encodes the context view like a glimpse. "own" gives the context view an
            encoder of its own, which ends at its feature map. Small things look unlike in the two views, and
            one encoder forgets what the other view needs.
        levels: the levels of black and white in stored images, such as (0, 4095) for 12 bits in 16; None for
            those of their dtype, which must be unsigned integers.
        encoder_kwargs: keywords of the timm model, such as `drop_rate` or `global_pool`.

    Raises:
        ValueError: an argument has a value that is not accepted; the message names both.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 1000,
        in_chans: int = 3,
        num_steps: int = 3,
        image_size: int | str = 512,
        context: str = "crop",
        context_size: int = 448,
        glimpse_crop: int = 224,
        glimpse_size: int | None = None,
        glimpse_scales: int = 1,
        hidden_size: int = 512,
        aggregate: str = "residual",
        location_std: float = 0.2,
        locator: str = "shared",
        location_input: bool = False,
        dynamic: bool = True,
        stopper: str = "confidence",
        stop_threshold: float = 0.5,
        crop_mode: str = "exact",
        context_encoder: str = "shared",
        levels: tuple[float, float] | None = None,
        **encoder_kwargs,
    ):
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_steps = num_steps
        self.image_size: int | None = None if image_size == NATIVE else image_size  # type: ignore[assignment]
        self.context = context
        self.context_size = context_size
        self.glimpse_crop = glimpse_crop
        self.glimpse_size = glimpse_crop if glimpse_size is None else glimpse_size
        self.glimpse_scales = glimpse_scales
        self.hidden_size = hidden_size
        self.aggregate = aggregate
        self.location_std = location_std
        self.locator_kind = locator
        self.location_input = location_input
        self.dynamic = dynamic
        self.stopper_kind = stopper
        self.stop_threshold = stop_threshold
        self.crop_mode = crop_mode
        self.context_encoder_kind = context_encoder
        self.levels = None if levels is None else list(levels)  # as in a checkpoint
        self.encoder_kwargs = encoder_kwargs
        check_arguments(self.arguments())
        self._build()
        self.pretrained_cfg = self.default_cfg = own_cfg(self)

    def _build(self) -> None:
        """Build the encoder, the core and the parts that read h, with fresh weights."""
        hidden = self.hidden_size
        self.encoder = create_encoder(**self._encoder_arguments())
        self.input_to_hidden = nn.Linear(feature_size(self.encoder), hidden)
        self.hidden_to_hidden = nn.Linear(hidden, hidden, bias=False)
        self.encoder_reads_locations = self.location_input and reads_locations(self.encoder)
        core_reads_locations = self.location_input and not self.encoder_reads_locations
        self.location_to_hidden = nn.Linear(2, hidden, bias=False) if core_reads_locations else None
        policy, answer = LOCATORS[self.locator_kind], ANSWERS[self.aggregate]
        self.map_index = map_index(self.encoder, self.context_size)
        cells = self._map_channels() if policy.needs_map or answer.needs_map else 0
        self.context_encoder = self.context_to_hidden = None
        if self.context_encoder_kind == "own":
            cells = self._map_channels()
            arguments = self._encoder_arguments() | {"num_classes": 0}
            self.context_encoder = cut_after_map(create_encoder(**arguments), self.map_index)
            self.context_to_hidden = nn.Linear(cells, hidden)
        self.locator = policy(Surroundings(hidden, self.num_steps, self.context != "none", cells))
        self.baseline = nn.Linear(hidden, 1)
        self.answer = answer(Widths(self.num_classes, feature_size(self.encoder), cells))
        self.head = self.answer.new_head(hidden, self.num_classes)
        self.stopper = STOPPERS[self.stopper_kind](hidden)
        checkpoint.accept_old_names(self)

    def _map_channels(self) -> int:
        """K of the feature map that the location policy or the answer reads; ValueError if there is none."""
        if self.context == "none" or self.map_index is None:
            lacking = "context='none'" if self.context == "none" else f"backbone={self.backbone!r}"
            reader = f"locator={self.locator_kind!r}"
            if not LOCATORS[self.locator_kind].needs_map:
                own = self.context_encoder_kind == "own"
                reader = "context_encoder='own'" if own else f"aggregate={self.aggregate!r}"
            raise ValueError(f"{reader} reads a feature map of the context; {lacking} gives none.")
        return map_channels(self.encoder, self.map_index)

    def _encoder_arguments(self) -> dict:
        views = {self.glimpse_size} | ({self.context_size} if self.context != "none" else set())
        return self.encoder_kwargs | {
            "backbone": self.backbone,
            "num_classes": self.num_classes if ANSWERS[self.aggregate].asks_encoder() else 0,
            "in_chans": self.in_chans * self.glimpse_scales,
            "view_sizes": views,
        }

    def open(self, images: Given) -> Images:
        """Images as the model reads them.

        Args:
            images: a tensor (B, C, H, W), or a sequence of B images of any sizes: tensors (C, H, W), or what
                has a shape and is sliced like an array, (H, W, C) or (H, W), in memory or on disk. Floats in
                tensors are normalised. Other images are stored pixels, which the model normalises.

        Raises:
            ValueError: images of the wrong rank, dtype or channels, or none.
        """
        return input.opened(self, images)

    def view(self, images: Images, locations: Tensor | None, rows: Tensor | None = None) -> Tensor:
        """Cut one view for each row, as the encoder sees it.

        Args:
            images: from `open`.
            locations: (N, 2) floats in [-1, 1], one glimpse for each; None for the context view.
            rows: (N,) int64, the image of each row; None where row i reads image i.

        Returns:
            (N, glimpse_scales * C, S, S), with S = `context_size` or `glimpse_size`.
        """
        return input.view(self, images, locations, rows)

    def encode_view(self, view: Tensor, locations: Tensor | None) -> Seen:
        """Encode views (N, C, S, S) of the context, or glimpses at `locations` (N, 2).

        `Seen.cells` of a context is the map (N, K, h, w), not yet placed in the image.
        """
        return seeing.encode_view(self, view, locations)

    def see(
        self,
        images: Images,
        locations: Tensor | None,
        rows: Tensor | None = None,
        encoded: Seen | None = None,
    ) -> Seen:
        """Encode one view of each row; arguments as in `view`. `encoded` is the view's, if it is known."""
        seen = encoded or self.encode_view(self.view(images, locations, rows), locations)
        return seen if seen.cells is None else seeing.place_cells(self, images, seen, rows)

    def begin(self, images: Images) -> State:
        """The state before the first step, for images from `open`."""
        like = self.input_to_hidden.weight
        if isinstance(images, Tensor) and images.is_floating_point():
            like = images
        count = images.shape[0] if isinstance(images, Tensor) else len(images)
        looks = torch.zeros((), dtype=torch.int64, device=like.device)
        return State(like.new_zeros(count, self.hidden_size), looks, begun=False)

    def absorb(self, state: State, seen: Seen, locations: Tensor | None) -> State:
        """Update the state by one look: the core (Eq. 3), the answer and the location policy's memory.

        `locations` (N, 2) is None for the context view, which has no location.
        """
        own_context = locations is None and self.context_to_hidden is not None
        total = (self.context_to_hidden if own_context else self.input_to_hidden)(seen.features)
        looks, fixed, memory = state.looks + 1, state.fixed, state.memory
        if state.begun:
            total = total + self.hidden_to_hidden(state.hidden)
            own, kept = self.answer.update(state, seen, locations, looks)
        else:
            own, kept = self.answer.begin(seen)
        if locations is None:
            fixed, memory = self.locator.look_at(seen)
        else:
            memory = self.locator.remember(state, locations)
            if self.location_to_hidden is not None:
                total = total + self.location_to_hidden(locations.to(total.dtype))
        return State(total.relu(), looks, own, fixed, memory, state.rows, kept=kept)

    def advance(
        self, images: Images, state: State, locations: Tensor | None, encoded: Seen | None = None
    ) -> State:
        """Take one step: a glimpse at `locations` (N, 2), or the context view if `locations` is None."""
        return self.absorb(state, self.see(images, locations, state.rows, encoded), locations)

    def first_location(self, state: State) -> Tensor | None:
        """The location (N, 2) of the first step; None for the context view."""
        return None if self.context != "none" else self.best_location(state)

    def best_location(self, state: State) -> Tensor:
        """The best location of the next step, (.., N, 2) float32 in [-1, 1]."""
        return self.locator.greedy(self.locator.plan(state))

    def logits(self, state: State) -> Tensor:
        """The answer after the looks so far: class logits (.., N, C), or h (.., N, H) if C is 0."""
        return self.answer.logits(self.head(state.hidden), state.own)

    def stop_logit(self, state: State, logits: Tensor) -> Tensor:
        """The logit (.., N) float32 of the probability to stop now; `logits` is `self.logits(state)`."""
        return self.stopper.logit(state.hidden, logits if self.num_classes else logits[..., :0], state.looks)

    def rollout(
        self,
        images: Given,
        *,
        sample: bool = False,
        num_rollouts: int = 1,
        noise: Noise | None = None,
        locations: Tensor | None = None,
        std: float | None = None,
        through_views: bool = False,
        first: Seen | None = None,
    ) -> Rollout:
        """Take all T steps and keep every tensor, for training and evaluation.

        Gradients: `logits` have gradients to the head, the core and the encoder. `location_log_probs` and
        `stop_logits` have gradients to the policies, the core and the encoder (Eq. 5). `baselines` have
        gradients to the baseline alone. `locations` have no gradient.

        Args:
            images: as in `open`.
            sample: whether to sample actions from the policies; otherwise every location is the best one,
                and a rollout stops at the first stop probability above `stop_threshold`.
            num_rollouts: M, the Monte-Carlo rollouts of one image (Eq. 2); they share the context view.
            noise: the randomness of the N = B * M rollouts; drawn anew by default.
            locations: (N, T, 2) locations to look at instead of the policy's. A context view ignores its own.
            std: standard deviation of the location policy; `location_std` by default.
            through_views: whether a location passes on the gradient of its view to the policy. A view has
                one if `crop_mode` is "bilinear".
            first: `encode_view` of the context views, if it is known.

        Returns:
            N rollouts; the rollouts of one image are neighbours.

        Raises:
            ValueError: images that `open` does not take.
        """
        images = self.open(images)
        if sample and noise is None:
            noise = Noise.draw(len(images), num_rollouts, self.num_steps, self.locator.noise_columns)
            noise = noise.to(self.input_to_hidden.weight.device)
        std = self.location_std if std is None else std
        noise = noise if sample else None
        return rollout(self, images, num_rollouts, noise, locations, std, through_views, first)

    def predict(
        self,
        images: Given,
        stop_threshold: float | None = None,
        max_steps: int | None = None,
        mean_steps: float | None = None,
        deadline: float | None = None,
    ) -> Prediction:
        """Take the best actions and only the steps that each image needs, without gradients (section 3.3).

        Args:
            images: as in `open`.
            stop_threshold: in [0, 1], in place of the model's own.
            max_steps: the largest number of steps, >= 1; `num_steps` by default.
            mean_steps: in place of a threshold, the mean steps of these images, in [1, max_steps]. The image
                that is least sure to stop takes the next step. An answer then depends on the other images.
            deadline: seconds after the call, > 0. No step starts that would end later, by the times that
                this model measured. The first step always runs.

        Raises:
            ValueError: images as in `rollout`; a value out of range; mean_steps of a RAM or with a threshold.
        """
        limits = Limits.of(self, stop_threshold, max_steps, mean_steps, deadline)
        with torch.no_grad():
            return predict(self, self.open(images), limits)
