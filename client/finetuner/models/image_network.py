"""ImageNetwork: a timm backbone, a pooling layer and an optional head."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from ..exceptions import InvalidInput

GEM_P = 3.0
GEM_EPS = 1e-6


class GeM(nn.Module):
    """Generalised mean over the positions of a feature map: (mean of x^p)^(1/p).

    Radenovic, Tolias and Chum, arXiv:1711.02512. p = 1 gives the average, and a large p approaches the maximum.
    Training changes p.

    Args:
        p: initial exponent, above 0.
        eps: lower bound of the features, above 0.
    """

    def __init__(self, p: float = GEM_P, eps: float = GEM_EPS) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool (batch, channels, height, width) to (batch, channels)."""
        return features.clamp(min=self.eps).pow(self.p).mean(dim=(-2, -1)).pow(1 / self.p)


class Average(nn.Module):
    """Mean over the positions of a feature map."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Pool (batch, channels, height, width) to (batch, channels)."""
        return features.mean(dim=(-2, -1))


def make_head(dim: int, output_dim: int) -> nn.Sequential:
    """Return Linear(dim, dim) - BN - ReLU - Linear(dim, output_dim) - BN."""
    return nn.Sequential(
        nn.Linear(dim, dim),
        nn.BatchNorm1d(dim),
        nn.ReLU(),
        nn.Linear(dim, output_dim),
        nn.BatchNorm1d(output_dim),
    )


class ImageNetwork(nn.Module):
    """Images -> embeddings, not normalised.

    Args:
        architecture: timm's name of a network that returns one feature map, or its tokens.
        pooling: `GeM()` or `Average()`.
        output_dim: output size of the head. None for no head.
    """

    def __init__(self, architecture: str, pooling: nn.Module, output_dim: int | None = None) -> None:
        super().__init__()
        features: Any = timm.create_model(architecture, num_classes=0)
        self.features = features
        self.pooling = pooling
        self.architecture = architecture
        self._channels_last = getattr(features, "output_fmt", "NCHW") == "NHWC"
        self.features_dim = int(features.num_features)
        self.head: nn.Module = nn.Identity() if output_dim is None else make_head(self.features_dim, output_dim)
        self.dim = output_dim or self.features_dim
        self._frozen = False

    def freeze(self) -> None:
        """Exclude the backbone from training, with the statistics of its batch norms. The rest is trained."""
        self._frozen = True
        self.features.requires_grad_(requires_grad=False).eval()

    def set_grad_checkpointing(self) -> None:
        """Recompute the backbone's activations in the backward pass, to save memory."""
        self.features.set_grad_checkpointing()

    def train(self, mode: bool = True) -> ImageNetwork:
        """Set the training mode. A frozen backbone stays in eval mode."""
        super().train(mode)
        if self._frozen:
            self.features.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed (batch, 3, size, size) float32, preprocessed, as (batch, dim)."""
        pooled = self.pooling(self._feature_map(self.features.forward_features(images)))  # (batch, features_dim)
        embeddings: torch.Tensor = self.head(self._norm(pooled))
        return embeddings

    def _feature_map(self, features: torch.Tensor) -> torch.Tensor:
        """Return (batch, channels, height, width).

        Tokens become a map of width 1, without class and register tokens.

        Raises:
            InvalidInput: features of any other form.
        """
        dims = getattr(features, "ndim", 0)
        if dims == 3:
            return features[:, getattr(self.features, "num_prefix_tokens", 0) :].transpose(1, 2).unsqueeze(-1)
        if dims == 4:
            return features.permute(0, 3, 1, 2) if self._channels_last else features
        raise InvalidInput(f"{self.architecture} must return one feature map. Got another form. Choose another model.")

    def _norm(self, pooled: torch.Tensor) -> torch.Tensor:
        """Apply the layer norm that some timm backbones have between pooling and classifier."""
        of_tokens = getattr(self.features, "fc_norm", None)
        of_map = getattr(getattr(self.features, "head", None), "norm", None)
        if isinstance(of_tokens, nn.Module):
            pooled = of_tokens(pooled)
        elif isinstance(of_map, nn.Module):
            pooled = of_map(pooled[..., None, None]).flatten(1)
        return pooled
