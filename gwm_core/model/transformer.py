"""Transformer blocks, independent of noise schedules, scenes and robots.

Attention is written out. At these sizes the backward pass of scaled_dot_product_attention is slower
on a CPU (measured: 45 % of a training step), and plain operations export to every runtime.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """Softmax attention (B, h, Tq, c): q (B, h, Tq, c), k, v (B, h, Tk, c), bias (B, h, Tq, Tk)."""
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + bias, dim=-1) @ v


def fourier(x: Tensor, octaves: int = 8) -> Tensor:
    """Sines and cosines (..., C * 2 * octaves) of positions (..., C) [m], from 2 m wavelength."""
    angles = x[..., None] * (math.pi * 2.0 ** torch.arange(octaves, device=x.device, dtype=x.dtype))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, d) -> (B, heads, T, d / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, h, T, c) -> (B, T, h * c)."""
    return x.transpose(1, 2).flatten(-2)


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (B, T, d)."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.out(join_heads(attend(q, k, v)))


class CrossAttention(nn.Module):
    """Cross-attention whose keys and values are cached for all denoising steps."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def cache(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, h, T, c) of a context (B, T, d)."""
        k, v = self.kv(context).chunk(2, dim=-1)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def forward(self, x: Tensor, kv: tuple[Tensor, Tensor]) -> Tensor:
        """(B, T, d) and cached keys and values -> (B, T, d)."""
        return self.out(join_heads(attend(split_heads(self.q(x), self.heads), *kv)))


def mlp(width: int) -> nn.Sequential:
    """Feed-forward network with a hidden layer of four times the width."""
    return nn.Sequential(
        nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
    )


class EncoderBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d) -> (B, T, d)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class DiTBlock(nn.Module):
    """Self-attention and MLP modulated by a condition, and cross-attention to a cached context.

    Modulation is adaLN-zero (DiT, arXiv 2212.09748).
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_cross, self.cross = nn.LayerNorm(width), CrossAttention(width, heads)
        self.attention, self.mlp = SelfAttention(width, heads), mlp(width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def modulate(self, condition: Tensor) -> Tensor:
        """Shifts, scales and gates (B, S, 6 d) of a condition (B, S, d)."""
        return self.modulation(torch.nn.functional.silu(condition))

    def forward(self, x: Tensor, modulation: Tensor, kv: tuple[Tensor, Tensor]) -> Tensor:
        """X (B, T, d), modulation (B, 1, 6 d) -> (B, T, d)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.chunk(6, dim=-1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        x = x + self.cross(self.norm_cross(x), kv)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)
