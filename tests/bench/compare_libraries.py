"""The libraries' ops that compare_ops.py calls, where a name of theirs is not enough."""

import os

import torch

import bench_env
from compare_formulas import BETA


def liger_preference(kind):
    """Liger's class, built once: it compiles its inner function at the first call."""
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss, LigerFusedLinearKTOLoss, LigerFusedLinearORPOLoss

    if kind == "orpo":
        loss = LigerFusedLinearORPOLoss(beta=BETA)
        return lambda hidden, weight, target, **_: loss(weight, hidden, target)[0]
    if kind == "dpo":
        loss = LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=True)

        def dpo(hidden, weight, target, ref_hidden, ref_weight, **_):
            return loss(weight, hidden, target, ref_input=ref_hidden, ref_weight=ref_weight)[0]

        return dpo
    loss = LigerFusedLinearKTOLoss(beta=BETA, use_ref_model=True)

    def kto(hidden, weight, target, ref_hidden, ref_weight, desirable, kl, **_):
        return loss(hidden, weight, target, preference_labels=desirable, ref_input=ref_hidden,
                    ref_weight=ref_weight, kl=kl)[0]  # fmt: skip

    return kto


def liger_functions():
    """Liger's functional API, or None with the reason."""
    reason = bench_env.require_version("liger-kernel", bench_env.LIGER_KERNEL_VERSION)
    if reason:
        return None, reason
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        return None, "its kernels are Triton's and need a GPU"
    try:
        from liger_kernel.transformers import functional

        return functional, None
    except Exception as error:  # Triton without a driver and the like
        return None, f"liger-kernel does not load: {error}"


def our_logprob(hidden, weight, target, **_):
    return torch.ops.liger.fused_linear_logprob(hidden, weight, target)[0]


def trl_head(function):
    """TRL's op with the chunk size of its trainers, without the outputs that only its logging asks for."""

    def logprob(hidden, weight, target, **_):
        return function.apply(hidden, weight, None, target, 1.0, 8192, None, 1.0, ())[0]

    return logprob


def liger_logprob(hidden, weight, target, **_):
    from liger_kernel.ops import LigerFusedLinearScaledCrossEntropyFunction

    return -LigerFusedLinearScaledCrossEntropyFunction.apply(hidden, weight, target)


def liger_embedding(ids, weight, **_):
    from liger_kernel.ops import LigerEmbeddingFunction

    return LigerEmbeddingFunction.apply(weight, ids)
