"""A small convolutional encoder for small glimpses, registered with timm as `glimpse_convnet`."""

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn


class GlimpseConvNet(nn.Module):
    """Two strided convolutions and a linear layer that keeps where in the glimpse each stroke is.

    For views of `img_size` pixels only: the features are flattened, not pooled, since a part of a digit
    means something else on the left of a glimpse than on its right.
    """

    def __init__(
        self,
        img_size: int = 12,
        in_chans: int = 1,
        num_classes: int = 10,
        widths: tuple[int, int] = (16, 32),
        num_features: int = 128,
        global_pool: str = "",
    ):
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = num_features
        side = (img_size + 3) // 4
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, padding=1)
        self.conv3 = nn.Conv2d(widths[1], widths[1], 3, stride=2, padding=1)
        self.fc = nn.Linear(widths[1] * side * side, num_features)
        self.head = nn.Linear(num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x).relu()).relu()).relu()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.fc(x.flatten(1)).relu()
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


default_cfgs = generate_default_cfgs(
    {
        "glimpse_convnet": {
            "input_size": (1, 12, 12),
            "num_classes": 10,
            "pool_size": None,
            "mean": (0.0,),
            "std": (1.0,),
            "fixed_input_size": True,
            "first_conv": "conv1",
            "classifier": "head",
        }
    }
)


@register_model
def glimpse_convnet(pretrained: bool = False, **kwargs) -> GlimpseConvNet:
    return build_model_with_cfg(GlimpseConvNet, "glimpse_convnet", pretrained, **kwargs)
