"""Encoders of small glimpses, registered with timm as `glimpse_convnet` and `glimpse_mlp`."""

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from ..checks import check_choice


class GlimpseConvNet(nn.Module):
    """Three convolutions, two of them strided, and a linear layer.

    The features are flattened, not pooled, because the position of a stroke in the glimpse matters. The
    encoder therefore takes views of `img_size` pixels only.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 12,
        in_chans: int = 1,
        num_classes: int = 10,
        widths: tuple[int, int] = (16, 32),
        num_features: int = 128,
        global_pool: str = "",
    ):
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = num_features
        side = (to_2tuple(img_size)[0] + 3) // 4
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.conv3 = nn.Conv2d(widths[1], widths[1], 3, stride=2, padding=1)
        self.fc = nn.Linear(widths[1] * side * side, num_features)
        self.head = nn.Linear(num_features, num_classes) if num_classes else nn.Identity()
        self.feature_info = [
            {"num_chs": widths[1], "reduction": 2, "module": "conv2"},
            {"num_chs": widths[1], "reduction": 4, "module": "conv3"},
        ]

    def forward_features(self, x: Tensor) -> Tensor:
        return self._maps(x)[-1]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The features and the maps (N, K, h, w) at `indices` of `feature_info`; arguments as in timm.

        `norm` and `stop_early` change nothing: there is no norm, and hardly anything to leave out.

        Raises:
            ValueError: another format than "NCHW".
        """
        check_choice("output_fmt", output_fmt, ["NCHW"])
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        maps = self._maps(x)
        found = [maps[index] for index in taken]
        return found if intermediates_only else (maps[-1], found)

    def _maps(self, x: Tensor) -> list[Tensor]:
        fine = self.conv2(self.conv1(x).relu()).relu()
        return [fine, self.conv3(fine).relu()]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.fc(x.flatten(1)).relu()
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class GlimpseMLP(nn.Module):
    """The glimpse network of RAM: one vector for the pixels and the location of a glimpse (section 4.2).

        what = ReLU(W_1 pixels), where = ReLU(W_2 location), features = ReLU(W_3 [what, where])

    The encoder takes views of `img_size` pixels only. The default location is the middle, (0, 0).
    """

    reads_locations = True

    def __init__(
        self,
        img_size: int | tuple[int, int] = 8,
        in_chans: int = 1,
        num_classes: int = 10,
        what_features: int = 128,
        where_features: int = 128,
        num_features: int = 256,
        global_pool: str = "",
    ):
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = num_features
        # A linear layer in the shape of a convolution, whose channels timm adapts to `in_chans`.
        self.what = nn.Conv2d(in_chans, what_features, img_size)
        self.where = nn.Linear(2, where_features)
        self.fc = nn.Linear(what_features + where_features, num_features)
        self.head = nn.Linear(num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor, locations: Tensor | None = None) -> Tensor:
        """Encode views (N, C, S, S) at locations (N, 2) in [-1, 1] into (N, D)."""
        if locations is None:
            locations = x.new_zeros(len(x), 2)
        what = F.linear(x.flatten(1), self.what.weight.flatten(1), self.what.bias)
        where = self.where(locations.to(x.dtype))
        return self.fc(torch.cat([what, where], dim=1).relu()).relu()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def _cfg(side: int, first_conv: str) -> dict:
    """The timm configuration for grey views of `side` pixels in [0, 1]."""
    return {
        "input_size": (1, side, side),
        "num_classes": 10,
        "pool_size": None,
        "mean": (0.0,),
        "std": (1.0,),
        "fixed_input_size": True,
        "first_conv": first_conv,
        "classifier": "head",
    }


default_cfgs = generate_default_cfgs({"glimpse_convnet": _cfg(12, "conv1"), "glimpse_mlp": _cfg(8, "what")})


@register_model
def glimpse_convnet(pretrained: bool = False, **kwargs) -> GlimpseConvNet:
    maps = {"feature_cls": "getter", "out_indices": (0, 1)}
    return build_model_with_cfg(GlimpseConvNet, "glimpse_convnet", pretrained, feature_cfg=maps, **kwargs)


@register_model
def glimpse_mlp(pretrained: bool = False, **kwargs) -> GlimpseMLP:
    return build_model_with_cfg(GlimpseMLP, "glimpse_mlp", pretrained, **kwargs)
