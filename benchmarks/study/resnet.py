"""ResNet-18 as it is used on CIFAR: a 3x3 convolution in front, and no pooling after it."""

import torch
from torch import nn

MEAN, SPREAD = 121.0, 64.0  # of CIFAR-10's bytes, over all channels


class Block(nn.Module):
    """Two convolutions with batch normalisation, and a shortcut around them."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, X):
        """Add what the convolutions make of the input to the input."""
        return torch.relu(self.convolutions(X) + self.shortcut(X))


class ResNet(nn.Module):
    """A residual network for small images, whose values are bytes.

    Weights and activations are in the channels-last format.

    Parameters
    ----------
    n_classes : int
        The number of outputs.
    widths : tuple of int, default=(64, 128, 256, 512)
        Channels of each stage; from the second on, each halves the image.
    n_blocks : int, default=2
        Blocks of a stage. With the default widths, 2 make a ResNet-18.
    precision : {"float32", "bf16"}, default="float32"
        The type that convolutions compute in. Weights, pooled features and the last layer are
        float32 in any case.
    """

    def __init__(self, n_classes, widths=(64, 128, 256, 512), n_blocks=2, precision="float32"):
        super().__init__()
        self.precision = precision
        layers = [nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        before = widths[0]
        for stage, width in enumerate(widths):
            for i in range(n_blocks):
                layers.append(Block(before, width, 2 if stage and not i else 1))
                before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(before, n_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, X):
        """Return the logits of a batch of images."""
        X = ((X - MEAN) / SPREAD).contiguous(memory_format=torch.channels_last)
        is_half = self.precision == "bf16"
        with torch.autocast(X.device.type, dtype=torch.bfloat16, enabled=is_half):
            Z = self.body(X)
        return self.head(Z.float())
