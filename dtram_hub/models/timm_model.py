"""The timm interface of a DTRAM: features and head, classifier, layer groups, saving and loading."""

import inspect
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from . import checkpoint
from .arguments import NATIVE, usual_side
from .early_exit import predict
from .encoder import load_encoder
from .limits import Limits
from .preprocessing import for_channels, forget_names
from .records import State
from .weights_cfg import stated_by_file


class TimmModel(nn.Module):
    """The base class of DTRAM, with the methods that timm and its scripts call.

    encoder_source: gives timm's `pretrained_cfg` of the encoder's weights that the caller named, by a tag or
        a repository; None for timm's default.
    recomputes_looks: see `set_grad_checkpointing`.
    """

    num_classes: int
    encoder_source: Callable[[], dict] | None = None
    recomputes_looks = False

    def arguments(self) -> dict:
        """The constructor's present keywords; `DTRAM(**model.arguments())` has the same shapes."""
        signature = inspect.signature(type(self).__init__).parameters.values()
        names = [p.name for p in signature if p.kind is not p.VAR_KEYWORD and p.name != "self"]
        parts = {name: f"{name}_kind" for name in ("locator", "stopper", "context_encoder")}
        values = {name: getattr(self, parts.get(name, name)) for name in names}
        return values | {"image_size": self.image_size or NATIVE} | self.encoder_kwargs

    @property
    def _model_args(self) -> dict:
        # timm's savers read this property. timm's factory sets it once, with arguments that may change later.
        return self.arguments()

    @_model_args.setter
    def _model_args(self, _: dict) -> None:
        pass

    @property
    def encoders(self) -> list[nn.Module]:
        """The encoder, and that of the context view if it has its own."""
        return [self.encoder, *([] if self.context_encoder is None else [self.context_encoder])]

    @property
    def usual_side(self) -> int:
        """The side of the squares that timm prepares: `image_size`, or that of the largest view."""
        return usual_side(self.arguments())

    @property
    def head_hidden_size(self) -> int:
        """H, the width of h, which the head reads."""
        return self.hidden_size

    @property
    def num_features(self) -> int:
        """The width of `forward_features`."""
        return self.hidden_size + (self.num_classes if self.answer.has_own() else 0)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, C) for images that `open` takes, at the steps described in `forward_features`."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """The input (B, num_features) of `forward_head` at the step where each image stopped.

        It is h, then the encoder's own part of the answer, if there is one. In evaluation the images stop as
        in `predict`, in training as in one sampled rollout.

        Raises:
            ValueError: images that `open` does not take.
        """
        if not self.training:
            return predict(self, self.open(images), Limits.of(self)).features
        rollout = self.rollout(images, sample=True)
        stops = torch.arange(len(rollout.steps), device=rollout.steps.device), rollout.steps - 1
        # The logits have no gradient to the policies. DDP waits for all gradients, so these are set to zero.
        policies = (self.locator, self.stopper, self.baseline, self.answer)
        idle = sum(p.sum() for part in policies for p in part.parameters())
        hidden = rollout.hidden[stops]
        hidden = hidden + 0 * idle.to(hidden.dtype)
        own = None if rollout.own_logits is None else rollout.own_logits[stops]
        return self.join_features(State(hidden, rollout.steps, own))

    def join_features(self, state: State) -> Tensor:
        """Join h (N, H) and the encoder's own part (N, C), if there is one, to (N, num_features)."""
        hidden, own = state.hidden, state.own
        return hidden if own is None else torch.cat([hidden, own.to(hidden.dtype)], dim=1)

    def split_features(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """The inverse of `join_features`: h (N, H), and the encoder's own part (N, C) or None."""
        hidden, own = features.tensor_split([self.hidden_size], dim=1)
        return hidden, own if self.num_features > self.hidden_size else None

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Turn the output of `forward_features` into class logits (B, C), or h (B, H) if `pre_logits`."""
        hidden, own = self.split_features(features)
        if pre_logits or not self.num_classes:
            return hidden
        return self.answer.logits(self.head(hidden), own)

    def forward_intermediates(
        self, images: Tensor, indices: int | list[int] | None = None, **kwargs
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The output of `forward_features`, and the encoder's feature maps of the context view, as in timm.

        Args:
            images: as in `open`.
            indices, kwargs: as in the encoder's method. `intermediates_only` leaves the features out.

        Raises:
            ValueError: context="none", or images as in `forward_features`.
        """
        if self.context == "none":
            raise ValueError("context='none' has no context view whose intermediates could be given.")
        images = self.open(images)
        view, only = self.view(images, None), kwargs.pop("intermediates_only", False)
        maps = self.encoder.forward_intermediates(view, indices=indices, intermediates_only=True, **kwargs)
        return maps if only else (self.forward_features(images), maps)

    @property
    def feature_info(self) -> list[dict]:
        """timm's description of the maps of `forward_intermediates`."""
        return self.encoder.feature_info

    def get_classifier(self) -> nn.Module:
        """The head on h; its output is the class logits, or their correction (see `aggregate`)."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the model a fresh head, and encoder and answer fresh classifiers if they have some."""
        if self.answer.asks_encoder():
            # timm before 1.0.31 takes no None; its new classifier is float32, on the CPU, in training mode.
            self.encoder.reset_classifier(num_classes, *(() if global_pool is None else (global_pool,)))
            self.encoder.to(self.input_to_hidden.weight).train(self.encoder.training)
        if num_classes != self.num_classes:
            forget_names(self.pretrained_cfg)
        self.num_classes = num_classes
        self.answer.reset_classes(num_classes)
        self.answer.to(self.input_to_hidden.weight).train(self.training)
        head = self.answer.new_head(self.hidden_size, num_classes)
        self.head = head.to(self.input_to_hidden.weight).train(self.training)

    def group_matcher(self, coarse: bool = False) -> dict | Callable:
        """Layer groups for layer-wise learning rates: the encoder's, then one for all other parameters."""
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
        """The names of the parameters that weight decay would harm, from the encoder and the policies."""
        names = ("encoder", "context_encoder", "locator", "stopper")
        parts = {name: getattr(self, name) for name in names}
        return {
            f"{part}.{name}"
            for part, module in parts.items()
            if hasattr(module, "no_weight_decay")
            for name in module.no_weight_decay()
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the encoder's activations, look by look, in the backward pass.

        Training then needs memory for the activations of one look, whatever T. The weights are the same.
        """
        self.recomputes_looks = enable

    def load_encoder(self, source: str | None = None, **loading) -> None:
        """Load the encoder's weights through timm's loader, and take on the mean and std that a file states.

        Args:
            source: a .safetensors file in timm's layout, see `weights_cfg.stated_by_file`; None for the
                weights that the model's name or `backbone` asks for, by a tag, a directory or a repository,
                else for timm's default.
            loading: `pretrained_cfg`, `pretrained_cfg_overlay`, `cache_dir`, as in timm.

        Raises:
            ValueError: no such file, another file type, or weights of another model.
        """
        if self.encoder_source is not None:
            loading = {"pretrained_cfg": self.encoder_source()} | loading
        load_encoder(self.encoder, source, loading, **self._encoder_arguments())
        if self.context_encoder is not None:
            known = self.context_encoder.state_dict().keys()
            weights = {name: w for name, w in self.encoder.state_dict().items() if name in known}
            self.context_encoder.load_state_dict(weights)
        stated = None if source is None else stated_by_file(source, self.backbone)
        for key, values in stated[0].items() if stated else ():
            self.pretrained_cfg[key] = for_channels(values, self.in_chans)

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, **kwargs) -> "TimmModel":
        """Load a saved DT-RAM, in evaluation mode.

        Args:
            source: a directory, or a repository "org/name" of the Hub.
            revision: branch, tag or commit of a repository.
            kwargs: constructor arguments to change, such as `num_classes`; `token` and `cache_dir` for a
                repository.

        Raises:
            ValueError, PermissionError, ConnectionError: as in `dtram_hub.pull`.
        """
        if Path(source).is_dir():
            return checkpoint.load(source, **kwargs)
        # Building a model must not import the client of the Hub.
        from ..sharing.pull import pull

        return pull(str(source), revision, **kwargs)

    def save_pretrained(self, directory: str | Path, class_names: list[str] | None = None) -> None:
        """Write config.json and model.safetensors, for `from_pretrained` and timm's `local-dir:`.

        Raises:
            ValueError: `class_names` has another length than there are classes, a keyword of the encoder is
                no plain value, or a weight is NaN or infinite.
        """
        Path(directory).mkdir(parents=True, exist_ok=True)
        checkpoint.save(self, directory, class_names or self.pretrained_cfg.get("label_names"))

    def push_to_hub(self, repo_id: str, **kwargs):
        """Upload the model to the Hub; keywords and result as in `dtram_hub.push`."""
        from ..sharing.push import push

        return push(self, repo_id, **kwargs)
