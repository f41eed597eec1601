"""ResNet from transformers' configuration (He et al. 2015, "Deep Residual Learning for Image Recognition")."""

from __future__ import annotations

from torch import nn

from mltrain.models.registry import register_image_model

__all__ = ["resnet18"]


@register_image_model("resnet18")
def resnet18(
    num_classes: int,
    channels: int,
    image_size: int,  # noqa: ARG001 (every builder gets it; this network takes any size)
    downsample_in_first_stage: bool = False,
) -> nn.Module:
    """Return ResNet-18 with fresh weights.

    Args:
        num_classes: size of the output.
        channels: of the input.
        image_size: not used; the network takes any.
        downsample_in_first_stage: halve the map in the first stage as well.
    """
    if not isinstance(downsample_in_first_stage, bool):
        raise TypeError(f"downsample_in_first_stage is {downsample_in_first_stage!r}, neither true nor false")
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=channels,
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        downsample_in_first_stage=downsample_in_first_stage,
        num_labels=num_classes,
    )
    model: nn.Module = ResNetForImageClassification(config)
    return model
