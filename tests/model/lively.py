"""A network that tells sounds apart without having been trained."""

from __future__ import annotations

import torch
from torch import nn

from earmark_model.frontend import FrontendSpec
from earmark_model.network import NetworkSpec, Tagger


def lively_tagger(spec: NetworkSpec, seed: int = 4) -> Tagger:
    """Random weights, and batch statistics of what passes through: with the initial ones every sound fades to the same scores."""
    torch.manual_seed(seed)
    tagger = Tagger(FrontendSpec(), spec)
    for layer in tagger.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.7
    levels = torch.tensor([0.3, 0.03, 0.003, 0.0]).repeat_interleave(8_000)
    for _ in range(4):
        tagger(torch.randn(4, 32_000) * levels)
    return tagger.eval()
