"""Attention in compare_liger.py: ours beside PyTorch's FlashAttention-2 and cuDNN, for equal and ragged lengths.

A sequence of L tokens takes 2 L^2 N H FLOPs forwards (half of the scores are masked) and 2.5 times that backwards.
"""

import math
import random

import torch
import torch.nn.functional as F

HEADS, KEY_HEADS, WIDTH = 32, 8, 128
MODES = {"fwd": 1.0, "bwd": 2.5}  # over the forward's FLOPs
OTHERS = ("fa2", "cudnn")  # columns that only attention has


def lengths_of(ragged, tokens, tiny):
    """Equal lengths, or between an eighth and all of that, drawn with a fixed seed."""
    longest = 16 if tiny else 4096
    if not ragged:
        return [longest] * (tokens // longest)
    draw, lengths = random.Random(3), []
    while sum(lengths) < tokens:
        lengths.append(min(draw.randrange(longest // 8, longest), tokens - sum(lengths)))
    return lengths


def plain(q, k, v, offsets, **_):
    """Scores of each sequence in full."""
    bounds, outs = offsets.tolist(), []
    for first, last in zip(bounds, bounds[1:]):
        query, key, value = (x[first:last].transpose(0, 1) for x in (q, k, v))
        key, value = (x.repeat_interleave(query.shape[0] // x.shape[0], 0) for x in (key, value))
        scores = query @ key.transpose(1, 2) / math.sqrt(q.shape[-1])
        unseen = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
        exact = torch.float64 if q.dtype == torch.float64 else torch.float32
        weights = scores.masked_fill(unseen, -math.inf).softmax(-1, exact).to(q.dtype)
        outs.append((weights @ value).transpose(0, 1))
    return torch.cat(outs)


def ours(q, k, v, offsets, cu_seqlens, **_):
    bounds = offsets.tolist()
    return torch.ops.liger.attention(q, k, v, bounds, bounds, 1 / math.sqrt(q.shape[-1]), 0, 0.0, "auto", cu_seqlens,
                                     cu_seqlens)  # fmt: skip


def flash(q, k, v, offsets, cu_seqlens, **_):
    longest = int((offsets[1:] - offsets[:-1]).max())
    return torch.ops.aten._flash_attention_forward(
        q, k, v, cu_seqlens, cu_seqlens, longest, longest, 0.0, True, False, scale=1 / math.sqrt(q.shape[-1]))[0]  # fmt: skip


def cudnn(q, k, v, offsets, **_):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    count = len(offsets) - 1
    query, key, value = (x.unflatten(0, (count, -1)).transpose(1, 2) for x in (q, k, v))
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    return out.transpose(1, 2).flatten(0, 1)


def ops(table, op_type):
    """The two ops; `rows` of them are sequences."""
    heads, key_heads, width = table.size((HEADS, KEY_HEADS, WIDTH), (4, 2, 16))
    for ragged in (False, True):
        lengths = lengths_of(ragged, table.size(16384, 64), table.tiny)

        def tensors(count, lengths=lengths):
            offsets = torch.tensor([0, *lengths[:count]]).cumsum(0)
            total = int(offsets[-1])
            return {"q": table.rand(total, heads, width), "k": table.rand(total, key_heads, width),
                    "v": table.rand(total, key_heads, width), "offsets": offsets,
                    "cu_seqlens": offsets.to(table.device, torch.int32)}  # fmt: skip

        impls = {"ours": ours if table.has("attention") else None, "torch": plain}
        if table.device == "cuda":
            impls.update(zip(OTHERS, (flash, None if ragged else cudnn), strict=True))
        name = f"attention {'ragged' if ragged else 'equal'} {len(lengths)} of {sum(lengths)} tokens, {heads}/{key_heads}x{width}"
        yield op_type(
            name, tensors, len(lengths), ("q", "k", "v"), plain, {key: call for key, call in impls.items() if call},
            MODES, "q", flops=sum(2.0 * length**2 * heads * width for length in lengths), check_rows=1,
        )  # fmt: skip
