"""Checks libliger_kernels.so from Python: torch.library.opcheck of every public op (schema,
autograd registration, fake tensors, AOT dispatch with dynamic shapes), values and gradients
against a float64 run on the CPU, shapes on fake CUDA tensors, and what in-place ops tell autograd.

    python tests/gpu/kernels_opcheck.py build/lib/libliger_kernels.so [--device cuda]

Needs the torch that the library was built against. Exit code 1 when a check fails.
"""

import argparse
import contextlib
import re
import sys

import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

IGNORE = -100


@contextlib.contextmanager
def raises(pattern):
    try:
        yield
    except RuntimeError as error:
        assert re.search(pattern, str(error)), f"{error!s:.300} has no '{pattern}'"
        return
    raise AssertionError(f"no error with '{pattern}'")


def cases(device, dtype):
    """(op, arguments) with every floating argument of `dtype`; angles need no gradient."""
    g = torch.Generator().manual_seed(1)

    def randn(*shape, grad=True):
        x = torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype).to(device)
        return x.requires_grad_(grad)

    def log_probs(grad=True):
        return randn(9, 33, grad=False).log_softmax(-1).requires_grad_(grad)

    target = torch.randint(0, 33, (9,), generator=g)
    target[2:4] = IGNORE
    target = target.to(device)
    frozen = randn(33, 8, grad=False)
    # Of float32, or of float64 with float64 inputs.
    token_weight = torch.rand(9, generator=g).to(device)
    ops = torch.ops.liger
    int8 = torch.randint(-128, 128, (9, 12), generator=g, dtype=torch.int8).to(device)
    packed = torch.randint(0, 256, (3, 5), generator=g, dtype=torch.uint8).to(device)
    return [
        (ops.matmul_int2xint8, (int8, packed)),
        (ops.pack_int2, (int8.view(12, 9).clamp(-1, 1),)),
        (ops.unpack_int2, (packed,)),
        (ops.linear, (randn(3, 9, 8), randn(5, 8), randn(5))),
        (ops.linear, (randn(9, 8), randn(5, 8))),
        (ops.rms_norm, (randn(9, 8), randn(8), 1e-5)),
        (ops.rms_norm, (randn(2, 9, 8), randn(8), 1e-5, 1.0, "gemma")),
        (ops.rms_norm, (randn(9, 8), randn(8), 1e-5, 0.0, "none")),
        (ops.rope, (randn(9, 4, 8), randn(9, 2, 8), randn(9, 8, grad=False),
                    randn(9, 8, grad=False))),
        (ops.rope, (randn(9, 4, 8), randn(9, 2, 8), randn(9, 4, grad=False),
                    randn(9, 4, grad=False))),
        (ops.rope, (randn(9, 4, 8), randn(9, 2, 8), randn(3, 9, 8, grad=False),
                    randn(3, 9, 8, grad=False), [1, 1, 2])),
        (ops.swiglu, (randn(9, 8), randn(9, 8))),
        (ops.geglu, (randn(9, 8), randn(9, 8))),
        (ops.fused_add_rms_norm, (randn(9, 8), randn(9, 8), randn(8), 1e-5)),
        (ops.fused_add_rms_norm, (randn(2, 9, 8), randn(2, 9, 8), randn(8), 1e-5, 1.0, "gemma")),
        (ops.layer_norm, (randn(9, 8), randn(8), randn(8), 1e-5)),
        (ops.layer_norm, (randn(2, 9, 8), randn(8))),
        (ops.group_norm, (randn(3, 6, 8), 2, randn(6), randn(6), 1e-5)),
        (ops.group_norm, (randn(3, 6, 2, 5), 3, randn(6))),
        (ops.softmax, (randn(2, 9, 8),)),
        (ops.dyt, (randn(9, 8), randn(1), randn(8), randn(8))),
        (ops.dyt, (randn(2, 9, 8), randn(1), randn(8))),
        (ops.embedding, (target.clamp(min=0), randn(33, 8))),
        (ops.embedding, (target.clamp(min=0).view(3, 3), randn(33, 8), 0)),
        (ops.geglu, (randn(9, 8), randn(9, 8), "tanh")),
        (ops.cross_entropy, (randn(9, 33), target, 0.25)),
        (ops.cross_entropy_with_options, (randn(9, 33), target)),
        (ops.cross_entropy_with_options, (randn(9, 33), target, randn(33, grad=False).abs(), "none",
                                          0.5, IGNORE, 0.1, 2.0, 1e-2, True)),
        (ops.kl_div, (log_probs(), log_probs(grad=False).exp())),
        (ops.kl_div, (log_probs(), log_probs(grad=False), "none", True)),
        (ops.jsd, (log_probs(), log_probs(grad=False), target, 0.3)),
        (ops.tvd, (log_probs().detach().exp().requires_grad_(), log_probs(grad=False).exp(), target,
                   "mean")),
        (ops.fused_linear_jsd, (randn(9, 8), randn(33, 8), randn(9, 6, grad=False),
                                randn(33, 6, grad=False), target, 0.3, 2.0)),
        (ops.fused_linear_jsd, (randn(9, 8), frozen, randn(9, 6, grad=False),
                                randn(33, 6, grad=False))),
        (ops.fused_linear_jsd, (randn(9, 8), randn(33, 8), randn(9, 6, grad=False),
                                randn(33, 6, grad=False), target, 0.3, 2.0, IGNORE, randn(33),
                                randn(33, grad=False))),
        (ops.fused_linear_cross_entropy, (randn(9, 8), randn(33, 8), target, randn(33), 0.25,
                                          IGNORE, True)),
        (ops.fused_linear_cross_entropy, (randn(9, 8), randn(33, 8), target)),
        (ops.fused_linear_logprob, (randn(9, 8), randn(33, 8), target, randn(33), IGNORE, True)),
        (ops.fused_linear_logprob, (randn(9, 8), frozen, target)),
        (ops.attention, (randn(9, 4, 8), randn(9, 2, 8), randn(9, 2, 8), [0, 3, 9], [0, 3, 9],
                         0.3)),
        (ops.attention, (randn(7, 4, 8), randn(9, 2, 8), randn(9, 2, 8), [0, 3, 7], [0, 3, 9],
                         0.3, 4, 2.0)),
        # Weights of tokens, valid rows, softcap, temperature, smoothing, z-loss.
        (ops.fused_linear_cross_entropy, (
            randn(9, 8), randn(33, 8), target, randn(33), 0.25, IGNORE, True,
            token_weight, (target != IGNORE).nonzero().view(-1), 5.0, 1.3, 0.1, 1e-2)),
        (ops.fused_linear_logprob, (randn(9, 8), randn(33, 8), target, randn(33), IGNORE, True,
                                    (target != IGNORE).nonzero().view(-1), 5.0, 1.3)),
    ]


def run(op, args):
    """Outputs and gradients of the first outputs' sum of squares."""
    leaves = [a.detach().clone().requires_grad_(a.requires_grad)
              if isinstance(a, torch.Tensor) else a for a in args]
    out = op(*leaves)
    out = out if isinstance(out, (tuple, list)) else (out,)
    differentiable = [o for o in out if o.requires_grad]
    if differentiable:
        sum(o.to(torch.float64).square().sum() for o in differentiable).backward()
    grads = [a.grad for a in leaves if isinstance(a, torch.Tensor) and a.requires_grad]
    return [t.detach().to("cpu", torch.float64) for t in [*out, *grads]]


def adamw_arguments(device, dtype):
    """params, grads, exp_avgs, exp_avg_sqs of liger::adamw_, a parameter with a decay and one without."""
    g = torch.Generator().manual_seed(1)

    def tensors(dtype):
        return [torch.randn(*shape, generator=g).to(dtype).to(device) for shape in ((33, 8), (8,))]

    return tensors(dtype), tensors(dtype), tensors(torch.float32), [t.square() for t in tensors(torch.float32)]


def check_adamw(device, dtype, tolerance):
    """A step of liger::adamw_ against torch.optim.AdamW in float64, clipped by a number on the device."""
    op, options = torch.ops.liger.adamw_, {"lr": 1e-2, "beta2": 0.99}
    scale = torch.tensor(0.5, device=device)
    params, grads, *states = adamw_arguments(device, dtype)
    if dtype == torch.float32:
        computes = [torch.zeros(33, 8, dtype=torch.bfloat16, device=device), torch.empty(0, device=device)]
        torch.library.opcheck(op.default, (params, grads, *states, computes, [0.1, 0.0], 3),
                              {**options, "grad_scale": scale, "streams": [5, 6]})
    leaves = [p.to("cpu", torch.float64).requires_grad_() for p in params]
    exact = torch.optim.AdamW([{"params": [leaves[0]], "weight_decay": 0.1},
                               {"params": [leaves[1]], "weight_decay": 0.0}], lr=1e-2, betas=(0.9, 0.99))
    for i, leaf in enumerate(leaves):
        leaf.grad = grads[i].to("cpu", torch.float64) * 0.5
        exact.state[leaf] = {"step": torch.tensor(2.0), "exp_avg": states[0][i].to("cpu", torch.float64),
                             "exp_avg_sq": states[1][i].to("cpu", torch.float64)}
    exact.step()
    op(params, grads, *states, [], [0.1, 0.0], 3, grad_scale=scale, **options)
    for ours, leaf in zip(params, leaves, strict=True):
        error = (ours.to("cpu", torch.float64) - leaf).norm() / leaf.norm()
        assert error <= tolerance, f"relative L2 {error:.2e} > {tolerance:.0e}"


def check_in_place(device):
    """In-place ops refuse what needs a gradient, and autograd sees what they wrote."""
    g = torch.Generator().manual_seed(1)
    ops = torch.ops.liger

    def randn(*shape):
        return torch.randn(*shape, generator=g).to(device)

    target, (k, cos, sin) = torch.tensor([0, 2, 1]).to(device), (randn(3, 1, 8) for _ in range(3))
    calls = {
        "rope_: .* q ": lambda x: ops.rope_(x, k, cos[:, 0], sin[:, 0]),
        "rope_: .* k ": lambda x: ops.rope_(k, x, cos[:, 0], sin[:, 0]),
        "cross_entropy_and_grad_: .* logits ":
            lambda x: ops.cross_entropy_and_grad_(x.view(3, -1), target),
        "cross_entropy_with_options_and_grad_: .* logits ":
            lambda x: ops.cross_entropy_with_options_and_grad_(x.view(3, -1), target),
        "adamw_: .* params ":
            lambda x: ops.adamw_([randn(2), x], [randn(2), randn(3, 2, 8)], [randn(2), randn(3, 2, 8)],
                                 [randn(2).abs(), randn(3, 2, 8).abs()], [], [0.0, 0.0], 1),
    }
    for message, call in calls.items():
        leaf = randn(3, 2, 8).requires_grad_()
        x = leaf * 1
        y = x.sin()
        for needs_grad in (leaf, x):
            before = needs_grad.detach().clone()
            with raises(message):
                call(needs_grad)
            assert torch.equal(needs_grad, before), message
        with torch.no_grad():
            call(x)
        with raises("modified by an inplace operation"):
            y.sum().backward()
    for name in torch._C._dispatch_get_all_op_names():
        written = name.startswith("liger::") and any(
            a.alias_info and a.alias_info.is_write
            for a in torch._C._get_schema(name, "").arguments)
        for key in ("Autograd", "ADInplaceOrView"):
            assert not written or torch._C._dispatch_has_kernel_for_dispatch_key(name, key), (
                f"{name} is not in kInPlaceOps of kernels/common/in_place.cpp")


def as_fake(mode, x, device):
    if not isinstance(x, torch.Tensor):
        return x
    with mode:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=device,
                                   requires_grad=x.requires_grad)


def check_fake_cuda(op, args):
    """On fake CUDA tensors, which need no GPU, an op gives what it gives on a CPU, without data."""
    real = op(*args)
    mode = FakeTensorMode()
    fake_args = [as_fake(mode, a, "cuda") for a in args]
    with mode:
        fake = op(*fake_args)
    is_tensor = isinstance(real, torch.Tensor)
    for r, f in zip((real,) if is_tensor else real, (fake,) if is_tensor else fake, strict=True):
        assert f.device.type == "cuda" and (f.shape, f.dtype) == (r.shape, r.dtype), (r.shape, f)


class Recorder(TorchDispatchMode):
    """Keeps the tensor arguments of each op that comes by."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func)] = [a for a in args if isinstance(a, torch.Tensor)]
        return func(*args, **(kwargs or {}))


def check_fake_attention():
    """Attention on fake CUDA tensors: offsets from the host, aligned heads, shapes."""
    def q(tokens, heads, first=0, wide=64):
        return torch.empty(tokens, heads, wide, device="cuda", dtype=dtype)[..., first:first + 64]

    for dtype in (torch.bfloat16, torch.float16):
        with FakeTensorMode():
            # A head that begins at odd elements, and heads that are a whole 16 bytes apart.
            for shape, copies in (((0, 64), False), ((1, 72), True), ((0, 65), True), ((8, 72), False)):
                with Recorder() as seen:
                    inputs = [q(9, heads, *shape) for heads in (4, 2, 2)]
                    out = torch.ops.liger.attention(*inputs, [0, 9], [0, 9], 0.1)
                assert out.shape == (9, 4, 64), out.shape
                flash = seen.calls["aten._flash_attention_forward.default"][:3]
                for given, taken in zip(inputs, flash, strict=True):
                    assert taken.storage_offset() % 8 == 0 and taken.stride(0) % 8 == 0, shape
                    assert (taken.stride() != given.stride()) == copies, shape
            starts = torch.empty(3, device="cuda", dtype=torch.int32)
            forward = q(9, 4), q(9, 2), q(9, 2)
            index = starts, starts[1:], starts, starts[1:]
            ops = torch.ops.liger
            out, stats = ops.attention_cudnn_forward(*forward, *index, 9, False, 0, 0.1)
            assert (out.shape, stats.shape, stats.dtype) == ((9, 4, 64), (9, 4), torch.float32)
            grads = ops.attention_cudnn_backward(out, *forward, out, stats, *index, 9, False, 0, 0.1)
            assert [g.shape for g in grads] == [x.shape for x in forward]
            index, options = (starts, starts), (9, 9, 0.1, 4, 2.0)
            out, stats = ops.attention_tiled_forward(*forward, *index, *options)
            assert (out.shape, stats.shape, stats.dtype) == ((9, 4, 64), (4, 9, 2), torch.float32)
            grads = ops.attention_tiled_backward(out, *forward, out, stats, *index, *options)
            assert [g.shape for g in grads] == [x.shape for x in forward]


def check_no_sync():
    """With the rows that have a target at hand, the fused heads never make the host wait; adamw_ never does."""
    g = torch.Generator().manual_seed(1)
    target = torch.randint(0, 33, (9,), generator=g)
    target[2:4] = IGNORE
    rows = (target != IGNORE).nonzero().view(-1).cuda()
    target, hidden, weight = target.cuda(), torch.randn(9, 8).cuda(), torch.randn(33, 8).cuda()
    hidden.requires_grad_()
    weight.requires_grad_()
    adamw, scale = adamw_arguments("cuda", torch.float32), torch.tensor(0.5, device="cuda")
    # A table of more than 64 KB, which the host copies while the GPU is busy.
    many = [[torch.ones(8, device="cuda") for _ in range(1000)] for _ in range(4)]
    for _ in range(2):  # the first one may wait for memory
        torch.cuda.synchronize()
        torch.cuda._sleep(10**9)
        torch.ops.liger.adamw_(*many, [], [0.0] * 1000, 1)
        is_busy = not torch.cuda.current_stream().query()
    assert is_busy, "adamw_ waited for the GPU"
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.ops.liger.adamw_(*adamw, [], [0.1, 0.0], 3, grad_scale=scale)
        for softcap in (0.0, 5.0):
            torch.ops.liger.fused_linear_cross_entropy(
                hidden, weight, target, valid_rows=rows, softcap=softcap)[0].backward()
            torch.ops.liger.fused_linear_logprob(
                hidden, weight, target, valid_rows=rows, softcap=softcap)[0].sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def check_values(op, args, tolerance):
    exact = [a.detach().to("cpu", torch.float64).requires_grad_(a.requires_grad)
             if isinstance(a, torch.Tensor) and a.is_floating_point()
             else a.cpu() if isinstance(a, torch.Tensor) else a for a in args]
    for i, (ours, ref) in enumerate(zip(run(op, args), run(op, exact), strict=True)):
        error = (ours - ref).norm() / max(ref.norm().item(), 1e-30) if ref.numel() else 0.0
        assert error <= tolerance, f"result {i}: relative L2 {error:.2e} > {tolerance:.0e}"


def check_op(op, args, device, dtype, tolerance):
    # Attention has another backend for each dtype; the other ops have the same code.
    if dtype == torch.float32 or op is torch.ops.liger.attention:
        torch.library.opcheck(op.default, args)
    check_values(op, args, tolerance)
    if device == "cpu":
        check_fake_cuda(op, args)


def attempt(name, check, *args):
    """1 if it fails: every op is tried, then the exit code says."""
    try:
        check(*args)
        print("ok  ", name)
        return 0
    except Exception as error:
        print("FAIL", name, "\n", str(error)[:3000])
        return 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.ops.load_library(options.library)
    failed = 0
    tolerances = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
    for dtype, tolerance in tolerances.items():
        for op, args in cases(options.device, dtype):
            failed += attempt(f"{op} {options.device} {dtype}", check_op, op, args, options.device,
                              dtype, tolerance)
        if dtype == torch.float16 and options.device == "cpu":
            continue  # adamw_ has no float16 there
        failed += attempt(f"liger.adamw_ {options.device} {dtype}", check_adamw, options.device, dtype, tolerance)
    failed += attempt("attention of fake CUDA tensors", check_fake_attention)
    failed += attempt("in-place ops and autograd", check_in_place, options.device)
    if options.device.startswith("cuda"):
        failed += attempt("fused heads and adamw_ without waiting", check_no_sync)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
