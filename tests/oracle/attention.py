"""Attention written plainly: einsum and softmax, in both orders of heads and q, k, v."""

import math

import torch
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k / sqrt(C)) v for (B, C, T) each."""
    scale = 1 / math.sqrt(math.sqrt(q.shape[1]))
    weight = torch.einsum("bct,bcs->bts", q * scale, k * scale).softmax(dim=-1)
    return torch.einsum("bts,bcs->bct", weight, v)


def attention_legacy(qkv: Tensor, num_heads: int) -> Tensor:
    """Attention where the rows of `qkv` (B, 3C, T) are head by head, and q, k, v within a head."""
    B, rows, T = qkv.shape
    heads = qkv.reshape(B * num_heads, rows // num_heads, T)
    q, k, v = heads.chunk(3, dim=1)
    return attention(q, k, v).reshape(B, rows // 3, T)


def attention_new(qkv: Tensor, num_heads: int) -> Tensor:
    """Attention where the rows of `qkv` (B, 3C, T) are all q, then all k, then all v, and heads within each."""
    B, rows, T = qkv.shape
    C = rows // 3
    q, k, v = (part.reshape(B * num_heads, C // num_heads, T) for part in qkv.chunk(3, dim=1))
    return attention(q, k, v).reshape(B, C, T)
