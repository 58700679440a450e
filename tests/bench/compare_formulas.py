"""The ops of compare_ops.py as plain formulas in PyTorch's operations.

They run in float64 as the reference, in bf16 as "torch", and compiled as "compile". The preference losses take per-token
log-probabilities, so that every library's head serves them.
"""

import torch
import torch.nn.functional as F

EPS = 1e-5
BETA = 0.1


def exact(x):
    """The dtype that norms and losses compute in: float32, or float64 of the reference."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def plain_rms_norm(x, weight, **_):
    x32 = x.to(exact(x))
    return weight * (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + EPS)).to(x.dtype)


def plain_add_rms_norm(x, residual, weight, **_):
    total = x + residual
    return plain_rms_norm(total, weight), total


def plain_layer_norm(x, weight, bias, **_):
    return F.layer_norm(x, x.shape[-1:], weight, bias, EPS)


def plain_rope(q, k, cos, sin, **_):
    def rotate(x):
        half = x.shape[-1] // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
        return x * cos.unsqueeze(2) + turned * sin.unsqueeze(2)

    return rotate(q), rotate(k)


def plain_cross_entropy(logits, target, **_):
    return F.cross_entropy(logits.to(exact(logits)), target)


def plain_head(hidden, weight, target, **_):
    return F.cross_entropy(F.linear(hidden, weight).to(exact(hidden)), target)


def plain_logprob(hidden, weight, target, **_):
    return -F.cross_entropy(F.linear(hidden, weight).to(exact(hidden)), target, reduction="none")


def plain_kl_div(log_q, log_p, **_):
    return F.kl_div(log_q.to(exact(log_q)), log_p.to(exact(log_p)), reduction="batchmean", log_target=True)


def plain_jsd(log_q, log_p, **_):
    q, p = log_q.to(exact(log_q)), log_p.to(exact(log_q))
    log_m = ((q.exp() + p.exp()) / 2).log()
    return (0.5 * p.exp() * (p - log_m) + 0.5 * q.exp() * (q - log_m)).sum() / q.shape[0]


def plain_linear_jsd(hidden, weight, teacher_hidden, teacher_weight, **_):
    q = F.linear(hidden, weight).to(exact(hidden)).log_softmax(-1)
    p = F.linear(teacher_hidden, teacher_weight).to(exact(hidden)).log_softmax(-1)
    return plain_jsd(q, p)


# ---- Preference heads: pairs of sequences, the first half chosen --------------------


def preference_loss(kind, logp, ref_logp, target, **_):
    """DPO (sigmoid), ORPO or KTO (kl = 0) of token log-probabilities [B*T]; the batch's first half is chosen."""
    rows = target.shape[0]
    logp = logp.view(rows, -1)
    if kind == "orpo":
        means = logp.mean(1)
        chosen, rejected = means.chunk(2)
        ratio = (chosen - rejected) - (torch.log1p(-chosen.exp()) - torch.log1p(-rejected.exp()))
        return -chosen.mean() - BETA * F.logsigmoid(ratio).mean()
    rewards = (logp - ref_logp.view(rows, -1)).sum(1)
    chosen, rejected = rewards.chunk(2)
    if kind == "dpo":
        return -F.logsigmoid(BETA * (chosen - rejected)).mean()
    return torch.cat((1 - torch.sigmoid(BETA * chosen), 1 - torch.sigmoid(-BETA * rejected))).mean()


def preference(kind, logprob):
    """The head by per-token log-probabilities of `logprob`; the reference's without gradients."""

    def run(hidden, weight, target, ref_hidden, ref_weight, **_):
        flat = target.flatten()
        ref = None
        if kind != "orpo":
            with torch.no_grad():
                ref = logprob(hidden=ref_hidden.flatten(0, 1), weight=ref_weight, target=flat)
        logp = logprob(hidden=hidden.flatten(0, 1), weight=weight, target=flat)
        return preference_loss(kind, logp, ref, target)

    return run
