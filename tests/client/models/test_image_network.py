"""Pooling, feature maps and layer norms of image networks, against formulas and timm itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from finetuner.exceptions import InvalidInput
from finetuner.models.image_network import Average, GeM, ImageNetwork


def test_gem_is_its_formula() -> None:
    features = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    pooled = GeM(p=3, eps=1e-6)(features)
    for row in range(2):
        for channel in range(3):
            values = [max(value, 1e-6) for line in features[row, channel].tolist() for value in line]
            expected = (sum(value**3 for value in values) / 20) ** (1 / 3)
            assert pooled[row, channel].item() == pytest.approx(expected, rel=1e-5)


def test_gem_of_one_is_the_average_and_its_exponent_is_learnt() -> None:
    features = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeM(p=1)(features), features.mean(dim=(-2, -1)))
    pooling = GeM()
    pooling(features).sum().backward()
    assert pooling.p.grad is not None
    assert pooling.p.grad.item() != 0


@pytest.mark.parametrize("architecture", ["test_convnext", "test_vit", "test_vit2", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("pooling", [GeM(), Average()])
@pytest.mark.seconds
def test_other_networks_are_pooled_over_their_positions(architecture: str, pooling: nn.Module) -> None:
    network = ImageNetwork(architecture, pooling).eval()
    images = torch.rand(2, *network.features.default_cfg["input_size"])
    with torch.inference_mode():
        found = network(images)
        features = network.features.forward_features(images)
        if isinstance(pooling, Average) and architecture != "test_vit":  # which takes its class token
            expected = network.features(images)
        elif features.ndim == 3:
            expected = pooling(features[:, network.features.num_prefix_tokens :].transpose(1, 2)[..., None])
        else:
            expected = pooling(features.permute(0, 3, 1, 2) if architecture.startswith("swin") else features)
        if isinstance(pooling, GeM) and architecture in ("test_convnext", "test_vit2"):  # a layer norm behind
            eps = (network.features.head.norm if architecture == "test_convnext" else network.features.fc_norm).eps
            expected = torch.nn.functional.layer_norm(expected, expected.shape[1:], eps=eps)
    assert found.shape == (2, network.dim)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_network_of_several_maps_is_refused() -> None:
    network = ImageNetwork("test_resnet", Average()).eval()
    network.features.forward_features = lambda images: [images, images]
    with pytest.raises(InvalidInput, match="test_resnet must return one feature map"):
        network(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("architecture", ["resnet50", "efficientnet_b0", "test_efficientnet"])
def test_architectures_give_feature_maps(architecture: str) -> None:
    network = ImageNetwork(architecture, GeM()).eval()
    expected = {"resnet50": 2048, "efficientnet_b0": 1280, "test_efficientnet": 256}[architecture]
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, network.dim) == (1, expected)
