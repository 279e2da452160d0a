"""DT-RAM: a network that looks at an image, looks again where it chooses, and stops when it has seen enough.

One step, through any timm encoder (section 3.2 and 3.3):

    view_t = the context view at step 1, a glimpse at location l_t after that
    f_t    = encoder(view_t)
    h_t    = ReLU(W_x f_t + W_h h_{t-1} [+ W_l l_t])
    heads of h_t: class logits, mean of the next location, stop logit, baseline (the reward to expect)

`rollout` takes all T steps and keeps every tensor, for training. `predict` takes only the steps that each
image needs. RAM, the model with a fixed number of steps, is the same network with `dynamic=False`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checks import check_choice, check_images, check_integer, check_number
from . import checkpoint, early_exit, policy
from .early_exit import Prediction
from .encoder import create_encoder, encode, encode_and_classify, feature_size, load_encoder, reads_locations
from .glimpse import CONTEXTS, CROP_MODES, context_view, retina

AGGREGATES = ("last", "residual", "average")
LOCATORS = ("shared", "stepwise")
STOPPERS = ("linear", "confidence", "margin")


@dataclass
class Rollout:
    """All T steps of N rollouts; column t - 1 belongs to step t.

    logits (N, T, C): the answer after each step.
    locations (N, T, 2): where each step looked, (y, x) in [-1, 1]; NaN for the context view.
    location_log_probs (N, T): of that location under its policy; 0 where none was drawn.
    stop_logits (N, T): sigmoid is the probability to stop after that step; NaN for RAM, which never decides.
    steps (N,) int64: the step at which the rollout stopped, in 1..T.
    baselines (N, T + 1): the reward expected before the first look and after each.
    hidden (N, T, H): the state after each step.
    own_logits (N, T, C): what the encoder's own classifier has its part in them; None if it has none.
    """

    logits: Tensor
    locations: Tensor
    location_log_probs: Tensor
    stop_logits: Tensor
    steps: Tensor
    baselines: Tensor
    hidden: Tensor | None = None
    own_logits: Tensor | None = None


def _fit_places(model: "DTRAM", weights: dict[str, Tensor], prefix: str, *_) -> None:
    """Weights of a model with more or fewer steps fit as well: the last place stands for all later ones."""
    places = weights.get(f"{prefix}places")
    if places is not None and len(places) != len(model.places):
        rows = torch.arange(len(model.places)).clamp(max=len(places) - 1)
        weights[f"{prefix}places"] = places[rows]


class DTRAM(nn.Module):
    """Dynamic Time Recurrent Attention Model around a timm encoder (Li et al. 2017).

    Args:
        backbone: name of the timm model that encodes every view.
        num_classes: C; 0 leaves the classifier out, and h is what comes out.
        in_chans: colour channels of the images.
        num_steps: T, the most looks at one image, the first included.
        image_size: side of the images in pixels that the model is meant for; others work if the views fit.
        context: the first look. "crop" is the central `context_size` pixels at full resolution (the paper's
            448 of 512), "resize" the whole image brought to `context_size`, "none" a glimpse like the others.
        context_size: side of the first look as the encoder sees it.
        glimpse_crop: side of a glimpse in image pixels.
        glimpse_size: side of a glimpse as the encoder sees it; `glimpse_crop` unless given.
        glimpse_scales: how many glimpses of growing width are taken around each location and stacked as
            channels (the retina of the original RAM); more than one needs context="none".
        hidden_size: width H of the recurrent state.
        aggregate: "last" reads the logits off h_t (the paper); "residual" adds to the encoder's own
            classifier on the context view a correction from h_t that starts at zero; "average" adds it to the
            mean of the encoder's own probabilities in all looks so far (the authors average logits).
        location_std: fixed standard deviation of the location policy, in units of half the image.
        locator: "shared" reads the next location off h_t by one linear layer (the paper); "stepwise" adds a
            place of each step's own, and starts from those alone (the authors share no locator among steps).
        location_input: whether the model is told where each glimpse was taken: its encoder, if that one reads
            locations, else its core.
        dynamic: whether the stop policy is in force; if not, every image gets T looks (RAM).
        stopper: "linear" decides from h_t alone (the paper); "confidence" is a small network that also reads
            how sure the classifier is (the authors' decider reads the classifier as well); "margin" reads,
            instead of h_t, how far the first choice is ahead of the second and how many looks it took: little
            to learn, for few images.
        stop_threshold: at inference an image stops after a step whose stop probability is above this.
        crop_mode: "exact" copies whole pixels, "bilinear" samples between them.
        encoder_kwargs: `drop_rate`, `drop_path_rate`, `global_pool` and the like, for the encoder.

    Raises:
        ValueError: an argument is not what is said here; the message names it.
    """

    def __init__(
        self,
        backbone: str = "resnet50",
        num_classes: int = 1000,
        in_chans: int = 3,
        num_steps: int = 3,
        image_size: int = 512,
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
        **encoder_kwargs,
    ):
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_steps = num_steps
        self.image_size = image_size
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
        self.stopper = stopper
        self.stop_threshold = stop_threshold
        self.crop_mode = crop_mode
        self.encoder_kwargs = encoder_kwargs
        self.head_hidden_size = hidden_size
        self._check_arguments()

        self.encoder = create_encoder(**self._encoder_arguments())
        self.input_to_hidden = nn.Linear(feature_size(self.encoder), hidden_size)
        self.hidden_to_hidden = nn.Linear(hidden_size, hidden_size, bias=False)
        self.encoder_reads_locations = location_input and reads_locations(self.encoder)
        told = location_input and not self.encoder_reads_locations
        self.location_to_hidden = nn.Linear(2, hidden_size, bias=False) if told else None
        self.locator = nn.Linear(hidden_size, 2)
        self.places = None
        if locator == "stepwise":
            nn.init.zeros_(self.locator.weight)
            nn.init.zeros_(self.locator.bias)
            # Without a context view the first places must cover the image; with one they start at the centre,
            # where photographs have what they show.
            spread = 0.5 if context == "none" else 0.1
            self.places = nn.Parameter(torch.empty(num_steps, 2).uniform_(-spread, spread))
            self.register_load_state_dict_pre_hook(_fit_places)
        self.baseline = nn.Linear(hidden_size, 1)
        self.head = self._new_head(num_classes)
        if stopper == "linear":
            self.stop_head = nn.Sequential(nn.Linear(hidden_size, 1))
        else:
            reads = 2 if stopper == "margin" else hidden_size + 2
            self.stop_head = nn.Sequential(nn.Linear(reads, 128), nn.ReLU(), nn.Linear(128, 1))
        # Until it is trained, every image is answered after one look.
        nn.init.zeros_(self.stop_head[-1].weight)
        nn.init.ones_(self.stop_head[-1].bias)

    def _encoder_arguments(self) -> dict:
        views = {self.glimpse_size} | ({self.context_size} if self.context != "none" else set())
        return self.encoder_kwargs | {
            "backbone": self.backbone,
            "num_classes": 0 if self.aggregate == "last" else self.num_classes,
            "in_chans": self.in_chans * self.glimpse_scales,
            "view_sizes": views,
        }

    def _new_head(self, num_classes: int) -> nn.Module:
        """A fresh classifier on h; where the encoder answers it corrects nothing until it is trained."""
        if not num_classes:
            return nn.Identity()
        head = nn.Linear(self.hidden_size, num_classes)
        if self.aggregate != "last":
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        return head

    def arguments(self) -> dict:
        """The constructor's keywords as they stand now; `DTRAM(**model.arguments())` has the same shape."""
        names = [p.name for p in inspect.signature(DTRAM).parameters.values() if p.kind is not p.VAR_KEYWORD]
        own = {"locator": self.locator_kind}
        return {
            name: own[name] if name in own else getattr(self, name) for name in names
        } | self.encoder_kwargs

    @property
    def _model_args(self) -> dict:
        # timm's savers write these into config.json, and its factory sets them once, before anything changes.
        return self.arguments()

    @_model_args.setter
    def _model_args(self, _: dict) -> None:
        pass

    def _check_arguments(self) -> None:
        check_integer("num_classes", self.num_classes, 0)
        sizes = ("image_size", "glimpse_crop", "glimpse_size", "glimpse_scales", "hidden_size")
        for name in ("in_chans", "num_steps", *sizes):
            check_integer(name, getattr(self, name), 1)
        check_choice("context", self.context, CONTEXTS)
        check_choice("aggregate", self.aggregate, AGGREGATES)
        check_choice("locator", self.locator_kind, LOCATORS)
        check_choice("stopper", self.stopper, STOPPERS)
        check_choice("crop_mode", self.crop_mode, CROP_MODES)
        check_number("location_std", self.location_std, 0, 2, open_low=True)
        check_number("stop_threshold", self.stop_threshold, 0, 1)
        if self.context != "none":
            check_integer("context_size", self.context_size, 1)
        elif self.aggregate != "last":
            raise ValueError(
                f"aggregate={self.aggregate!r} needs a context view; context='none' takes aggregate='last'."
            )
        if self.glimpse_scales > 1 and self.context != "none":
            raise ValueError(
                f"glimpse_scales={self.glimpse_scales} stacks channels that a context view does not have; "
                "it takes context='none'."
            )
        if self.image_size < self._least_size():
            raise ValueError(
                f"image_size={self.image_size} is smaller than the largest view, {self._least_size()} pixels."
            )

    def _least_size(self) -> int:
        """The smallest image that every view fits in."""
        return max(self.glimpse_crop, self.context_size if self.context == "crop" else 0)

    def look(self, images: Tensor, locations: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Encode one view of each image: the context view when `locations` is None, else a glimpse.

        images (N, C, H, W), locations (N, 2) -> features (N, D), and the encoder's own logits (N, C) where
        they have a part in the answer, else None.
        """
        if locations is None:
            views, where = context_view(images, self.context, self.context_size), None
        else:
            sizes = self.glimpse_crop, self.glimpse_size, self.glimpse_scales
            views = retina(images, locations, *sizes, self.crop_mode)
            where = locations if self.encoder_reads_locations else None
        asked = self.aggregate == "average" or (self.aggregate == "residual" and locations is None)
        if asked and self.num_classes:
            return encode_and_classify(self.encoder, views, where)
        return encode(self.encoder, views, where), None

    def own_answer(
        self, before: Tensor | None, own_logits: Tensor | None, looks: int | Tensor
    ) -> Tensor | None:
        """The encoder's own part in the answer after so many looks: (N, C), or None if it has none.

        `before` is that part one look ago, None at the first; `own_logits` what `look` gave now.
        """
        if before is None or own_logits is None:
            return own_logits if before is None else before
        # The mean of probabilities, not of logits: one look that is surely wrong must not outvote the others.
        looks = torch.as_tensor(looks, dtype=before.dtype, device=before.device)
        earlier = before.log_softmax(-1) + (1 - 1 / looks).log()
        return torch.logaddexp(earlier, own_logits.log_softmax(-1) - looks.log())

    def initial_hidden(self, images: Tensor) -> Tensor | None:
        """h_0: zeros (N, H), to ask where to look first, or None when the first look is the context view."""
        return images.new_zeros(images.shape[0], self.hidden_size) if self.context == "none" else None

    def step(self, features: Tensor, hidden: Tensor | None, locations: Tensor | None) -> Tensor:
        """The core (Eq. 3): features (N, D), h_{t-1} (N, H), locations (N, 2) -> h_t (N, H).

        `hidden=None` stands for the zero state, `locations=None` for the context view, which has no place.
        """
        total = self.input_to_hidden(features)
        if hidden is not None:
            total = total + self.hidden_to_hidden(hidden)
        if self.location_to_hidden is not None and locations is not None:
            total = total + self.location_to_hidden(locations.to(total.dtype))
        return total.relu()

    def locate(self, hidden: Tensor, step: int | Tensor) -> Tensor:
        """Mean of the location that look `step` + 1 takes: (..., N, H) -> (..., N, 2) float32 in [-1, 1].

        With a leading dimension, `step` is that of its first entry.
        """
        means = self.locator(hidden).float()
        if self.places is not None:
            last = len(self.places) - 1
            if isinstance(step, Tensor):
                steps = step.clamp(max=last)
            elif hidden.ndim > 2:
                steps = [min(step + i, last) for i in range(len(hidden))]
            else:
                steps = min(step, last)
            means = means + self.places[steps].unsqueeze(-2)
        return means.tanh()

    def classify(self, hidden: Tensor, own: Tensor | None) -> Tensor:
        """(..., H) -> class logits (..., C), on top of the encoder's own part."""
        logits = self.head(hidden)
        return logits if own is None else own + logits

    def stop_logit(self, hidden: Tensor, logits: Tensor, step: int | Tensor) -> Tensor:
        """(..., N, H) and (..., N, C) -> (..., N) float32; sigmoid is the probability to stop after look
        `step` (f_a of section 3.3).

        With a leading dimension, `step` is that of its first entry. The gradient reaches the core through
        `hidden` alone: the classifier is read, never bent to it.
        """
        answer, reads = logits.detach(), hidden
        if self.stopper == "confidence":
            sure = policy.confidence(answer) if self.num_classes else hidden.new_zeros(*hidden.shape[:-1], 2)
            reads = torch.cat([hidden, sure.to(hidden.dtype)], dim=-1)
        elif self.stopper == "margin":
            ahead = policy.margin(answer) if self.num_classes else hidden.new_zeros(hidden.shape[:-1])
            looks = torch.ones_like(ahead) * step
            if hidden.ndim > 2:
                looks = looks + torch.arange(len(hidden), device=hidden.device)[:, None]
            reads = torch.stack([ahead, looks], dim=-1).to(hidden.dtype)
        return self.stop_head(reads).squeeze(-1).float()

    def rollout(
        self,
        images: Tensor,
        *,
        sample: bool = False,
        num_rollouts: int = 1,
        locations: Tensor | None = None,
    ) -> Rollout:
        """Take all `num_steps` steps and keep everything, for training and for measuring.

        Gradients: `logits` reach the heads, the core and the encoder through time; `location_log_probs` and
        `stop_logits` reach the locator and the stopper, and through h the core and the encoder (Eq. 5);
        `baselines` reach the baseline head alone. Nothing flows back through a location into the policy.

        Args:
            images: (B, C, H, W) floats.
            sample: draw locations and stops from their policies; otherwise look at the mean location and stop
                where the probability is above `stop_threshold`.
            num_rollouts: M, Monte-Carlo rollouts per image (Eq. 2); they share the context view.
            locations: (B * M, T, 2), look there instead of asking the policy; a context step ignores its own.

        Returns:
            Rollout of N = B * M; the rollouts of one image are neighbours.

        Raises:
            ValueError: images of the wrong rank, dtype, channels or size, or none at all.
        """
        check_images(images, self.in_chans, self._least_size())
        hidden, own = self.initial_hidden(images), None
        if hidden is not None and num_rollouts > 1:
            images, hidden = (x.repeat_interleave(num_rollouts, dim=0) for x in (images, hidden))
        states, draws, parts = [hidden], [], []
        for t in range(self.num_steps):
            draw = place = None
            if hidden is not None:
                draw = self._draw_location(hidden, t, sample) if locations is None else locations[:, t]
                place = draw.clamp(-1, 1)
            features, own_logits = self.look(images, place)
            if place is None and num_rollouts > 1:
                images, features = (x.repeat_interleave(num_rollouts, dim=0) for x in (images, features))
                own_logits = None if own_logits is None else own_logits.repeat_interleave(num_rollouts, dim=0)
            own = self.own_answer(own, own_logits, t + 1)
            hidden = self.step(features, hidden if t else None, place)
            states.append(hidden)
            parts.append(own)
            draws.append(images.new_full((len(hidden), 2), torch.nan) if draw is None else draw)

        # The heads read all steps at once, steps first: fewer, larger, contiguous operations, also backwards.
        states[0] = torch.zeros_like(hidden) if states[0] is None else states[0].to(hidden.dtype)
        before, after, draws = torch.stack(states[:-1]), torch.stack(states[1:]), torch.stack(draws)
        log_probs = torch.zeros_like(draws[:, :, 0])
        if sample and locations is None:
            first = int(self.context != "none")  # the first look that was drawn
            means = self.locate(before[first:], first)
            log_probs[first:] = policy.location_log_probs(draws[first:], means, self.location_std)
        own = None if own is None else torch.stack(parts)
        logits = self.classify(after, own)
        stop_logits = torch.full_like(log_probs, torch.nan)
        if self.dynamic:
            stop_logits = self.stop_logit(after, logits, 1)
        baselines = torch.cat([self.baseline(states.detach()) for states in (before[:1], after)])
        return Rollout(
            logits=logits.float().transpose(0, 1),
            locations=draws.clamp(-1, 1).transpose(0, 1),
            location_log_probs=log_probs.T,
            stop_logits=stop_logits.T,
            steps=self._choose_steps(stop_logits.T.detach().sigmoid(), sample),
            baselines=baselines.float().squeeze(-1).T,
            hidden=after.transpose(0, 1),
            own_logits=None if own is None else own.transpose(0, 1),
        )

    @torch.no_grad()
    def _draw_location(self, hidden: Tensor, step: int, sample: bool) -> Tensor:
        """Where to look, (N, H) -> (N, 2): the mean of the policy, or a draw around it, not yet clipped."""
        mean = self.locate(hidden, step)
        return policy.sample_location(mean, self.location_std) if sample else mean

    def _choose_steps(self, stop_probs: Tensor, sample: bool) -> Tensor:
        if not self.dynamic:
            return torch.full((len(stop_probs),), self.num_steps, device=stop_probs.device)
        threshold = torch.rand_like(stop_probs) if sample else self.stop_threshold
        return policy.first_stop(stop_probs > threshold)

    def predict(
        self, images: Tensor, stop_threshold: float | None = None, max_steps: int | None = None
    ) -> Prediction:
        """Look at each image only as often as it needs; deterministic, without gradients.

        Args:
            images: (B, C, H, W) floats.
            stop_threshold: stop after a step whose stop probability is above this; else the model's own.
            max_steps: the most looks at one image, 1 or more; by default `num_steps`.

        Raises:
            ValueError: images as in `rollout`; a threshold outside of [0, 1]; max_steps below 1.
        """
        stop_threshold = self.stop_threshold if stop_threshold is None else stop_threshold
        max_steps = self.num_steps if max_steps is None else max_steps
        check_images(images, self.in_chans, self._least_size())
        check_number("stop_threshold", stop_threshold, 0, 1)
        check_integer("max_steps", max_steps, 1)
        with torch.no_grad():
            return early_exit.predict(self, images, stop_threshold, max_steps)

    @property
    def num_features(self) -> int:
        """Width of `forward_features`."""
        return self.hidden_size + (0 if self.aggregate == "last" else self.num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """All that `forward_head` needs, (B, num_features): h at the step where each image stopped, and the
        encoder's own part in the answer behind it, if there is one.

        In evaluation these are the stops of `predict`, in training those of one sampled rollout.
        """
        if not self.training:
            check_images(images, self.in_chans, self._least_size())
            return early_exit.predict(self, images, self.stop_threshold, self.num_steps).features
        rollout = self.rollout(images, sample=True)
        stops = torch.arange(len(images), device=images.device), rollout.steps - 1
        hidden = rollout.hidden[stops]
        # With weight zero: logits teach a policy nothing, but DDP waits for all parameters to take part.
        policies = (self.locator, self.stop_head, self.baseline)
        unused = [p for module in policies for p in module.parameters()]
        unused += [self.places] if self.places is not None else []
        hidden = hidden + 0 * sum(p.sum() for p in unused).to(hidden.dtype)
        own = None if rollout.own_logits is None else rollout.own_logits[stops]
        return self.join_features(hidden, own)

    def join_features(self, hidden: Tensor, own: Tensor | None) -> Tensor:
        """h (B, H) and the encoder's own part (B, C), if it has one -> (B, num_features)."""
        return hidden if own is None else torch.cat([hidden, own.to(hidden.dtype)], dim=1)

    def split_features(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The inverse of `join_features`."""
        hidden, own = features.tensor_split([self.hidden_size], dim=1)
        return hidden, own if self.aggregate != "last" and self.num_classes else None

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gave -> class logits (B, C), or h (B, H) if `pre_logits`."""
        hidden, own = self.split_features(features)
        return hidden if pre_logits or not self.num_classes else self.classify(hidden, own)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, C): in evaluation those of `predict`, in training those of one sampled rollout."""
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(
        self, images: Tensor, indices: int | list[int] | None = None, **kwargs
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The encoder's feature maps of the context view, behind `forward_features` as in timm.

        Args:
            images: (B, C, H, W) floats.
            indices, kwargs: as in the encoder's own method; `intermediates_only` leaves out the features.

        Raises:
            ValueError: there is no context view.
        """
        if self.context == "none":
            raise ValueError("context='none' has no context view whose intermediates could be given.")
        check_images(images, self.in_chans, self._least_size())
        views = context_view(images, self.context, self.context_size)
        only = kwargs.pop("intermediates_only", False)
        maps = self.encoder.forward_intermediates(views, indices=indices, intermediates_only=True, **kwargs)
        return maps if only else (self.forward_features(images), maps)

    @property
    def feature_info(self) -> list[dict]:
        """The encoder's, which `forward_intermediates` gives."""
        return self.encoder.feature_info

    def get_classifier(self) -> nn.Module:
        """The head that reads class logits off h, or their correction where the encoder answers."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh head of `num_classes` on h, and on the encoder where it answers."""
        if self.aggregate != "last":
            self.encoder.reset_classifier(num_classes, global_pool)
        self.num_classes = num_classes
        self.head = self._new_head(num_classes).to(self.locator.weight).train(self.training)

    def group_matcher(self, coarse: bool = False) -> dict | Callable:
        """Layer groups for layer-wise learning rates: the encoder's own, then all that sits on top of it."""
        if not hasattr(self.encoder, "group_matcher"):
            return {"stem": r"^encoder\."}
        groups = self.encoder.group_matcher(coarse=coarse)
        if callable(groups):
            inside = len("encoder.")
            return lambda name: groups(name[inside:]) if name.startswith("encoder.") else (float("inf"),)

        def prefixed(patterns):
            if isinstance(patterns, str):
                return rf"^encoder\.(?:{patterns.removeprefix('^')})"
            return [(prefixed(pattern), suffix) for pattern, suffix in patterns]

        return {name: prefixed(patterns) for name, patterns in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay would harm: the encoder's own list, and the places."""
        names = self.encoder.no_weight_decay() if hasattr(self.encoder, "no_weight_decay") else ()
        return {f"encoder.{name}" for name in names} | ({"places"} if self.places is not None else set())

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade compute for memory in the encoder, where it can."""
        self.encoder.set_grad_checkpointing(enable)

    def load_encoder(self, source: str | None = None, **loading) -> None:
        """Start the encoder from weights in timm's layout, through timm's own loader.

        Args:
            source: a .safetensors file; None for the weights that timm knows, which it may have to download.
            loading: `pretrained_cfg`, `pretrained_cfg_overlay`, `cache_dir`, as in timm.

        Raises:
            ValueError: no such file, another file type, or weights of another model.
        """
        load_encoder(self.encoder, source, **self._encoder_arguments(), **loading)

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, **kwargs) -> "DTRAM":
        """A saved DT-RAM, in evaluation mode: from a directory, or from the Hub by "org/name".

        Args:
            source: the directory, or the repository.
            revision: branch, tag or commit of a repository.
            kwargs: arguments of the model to change, such as `num_classes`; for a repository `token` and
                `cache_dir` as well.

        Raises:
            ValueError, PermissionError, ConnectionError: as in `dtram_hub.pull`.
        """
        if Path(source).is_dir():
            return checkpoint.load(source, **kwargs)
        from ..sharing import hub

        return hub.pull(str(source), revision, **kwargs)

    def save_pretrained(self, directory: str | Path, class_names: list[str] | None = None) -> None:
        """Write config.json and model.safetensors, for `from_pretrained` and timm's `local-dir:`."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        checkpoint.save(self, directory, class_names or self.pretrained_cfg.get("label_names"))

    def push_to_hub(self, repo_id: str, **kwargs):
        """Put the model on the Hub; keywords as in `dtram_hub.push`."""
        from ..sharing import hub

        return hub.push(self, repo_id, **kwargs)
