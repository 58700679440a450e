"""The ops that compare_liger.py times: tensors, one function an implementation, a plain reference.

A function takes the op's tensors by name and returns a tensor or several; gradients are taken of the
sum of its outputs times the upstream gradients. `plain` is the op's formula (compare_formulas.py).
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F

import bench_env
import compare_attention
from compare_formulas import (
    EPS,
    plain_add_rms_norm,
    plain_cross_entropy,
    plain_head,
    plain_jsd,
    plain_kl_div,
    plain_layer_norm,
    plain_linear_jsd,
    plain_logprob,
    plain_rms_norm,
    plain_rope,
    preference,
)
from compare_libraries import liger_embedding, liger_functions, liger_logprob, liger_preference, our_logprob, trl_head

OURS, LIGER, LIGER_FP32, TRL, TORCH, COMPILE = "ours", "liger", "liger32", "trl", "torch", "compile"
COLUMNS = (OURS, LIGER, LIGER_FP32, TRL, TORCH, COMPILE, *compare_attention.OTHERS)


@dataclasses.dataclass
class Op:
    name: str
    tensors: Callable  # (rows) -> {name: tensor}; rows: of the timed shape, or fewer for the reference
    rows: int
    grads: tuple  # the tensors that gradients are taken of
    plain: Callable
    impls: dict
    passes: dict = dataclasses.field(default_factory=dict)  # mode: bytes per byte of the tensors' `unit`
    unit: str = ""
    flops: float = 0.0  # of the products in mode fwd or full, where those are the ceiling; passes: then factors of it
    products: Callable | None = None  # the tensors -> a function that runs the products alone
    check_rows: int = 512
    compiled: bool = True  # show torch.compile as well


def randn(*shape, device, dtype=torch.bfloat16, scale=1.0):
    return (torch.randn(*shape, device=device, dtype=torch.float32) * scale).to(dtype)


class Table:
    """Builds the list for a device; sizes: {"full"} of issue 4, or {"tiny"} for a smoke test on a CPU."""

    def __init__(self, device, tiny):
        self.device, self.tiny = device, tiny
        self.liger, self.liger_reason = liger_functions()
        self.trl = bench_env.trl_logprob() if bench_env.version("trl") else None
        self.own = torch.ops.liger
        self.ops = []
        for build in (self.norms, self.rope, self.gates, self.embedding, self.losses, self.heads, self.divergences,
                      self.linear_jsd, self.preferences, self.attention, self.group_norm, self.others):  # fmt: skip
            build()

    def attention(self):
        self.ops.extend(compare_attention.ops(self, Op))

    def size(self, full, tiny):
        return tiny if self.tiny else full

    def rand(self, *shape, **options):
        return randn(*shape, device=self.device, **options)

    def targets(self, *shape, vocabulary):
        return torch.randint(0, vocabulary, shape, device=self.device)

    def has(self, op):
        return hasattr(self.own, op)

    def add(self, op, ours=None, liger=None, trl=None, liger_fp32=None):
        """Functions, or None where the library has no such op; liger_fp32 sums the weight's gradient in fp32."""
        op.impls = {OURS: ours, LIGER: liger if self.liger else None, LIGER_FP32: liger_fp32 if self.liger else None,
                    TRL: trl if self.trl else None, TORCH: op.plain, COMPILE: op.plain}  # fmt: skip
        op.impls = {name: call for name, call in op.impls.items() if call is not None}
        if not op.compiled:
            op.impls.pop(COMPILE)
        self.ops.append(op)

    def norms(self):
        rows, width = self.size(16384, 64), self.size(4096, 128)
        own, liger = self.own, self.liger

        def tensors(count):
            return {"x": self.rand(count, width), "residual": self.rand(count, width),
                    "weight": self.rand(width), "bias": self.rand(width)}  # fmt: skip

        def pick(*names):
            return lambda count: {name: tensor for name, tensor in tensors(count).items() if name in names}

        shape = f" {rows}x{width}"
        self.add(
            Op("rms_norm" + shape, pick("x", "weight"), rows, ("x", "weight"), plain_rms_norm, {},
               {"fwd": 2, "bwd": 3}, "x"),
            ours=lambda x, weight, **_: own.rms_norm(x, weight, EPS),
            liger=lambda x, weight, **_: liger.liger_rms_norm(x, weight, EPS),
        )  # fmt: skip
        self.add(
            Op("fused_add_rms_norm" + shape, pick("x", "residual", "weight"), rows, ("x", "residual", "weight"),
               plain_add_rms_norm, {}, {"fwd": 4, "bwd": 4}, "x"),
            ours=lambda x, residual, weight, **_: own.fused_add_rms_norm(x, residual, weight, EPS),
            liger=lambda x, residual, weight, **_: liger.liger_fused_add_rms_norm(x, residual, weight, EPS),
        )  # fmt: skip
        self.add(
            Op("layer_norm" + shape, pick("x", "weight", "bias"), rows, ("x", "weight", "bias"), plain_layer_norm,
               {}, {"fwd": 2, "bwd": 3}, "x"),
            ours=lambda x, weight, bias, **_: own.layer_norm(x, weight, bias, EPS),
            liger=lambda x, weight, bias, **_: liger.liger_layer_norm(x, weight, bias, EPS),
        )  # fmt: skip

    def group_norm(self):
        rows, channels, length, groups = self.size((64, 512, 4096, 32), (4, 16, 32, 4))

        def tensors(count):
            return {"x": self.rand(count, channels, length), "weight": self.rand(channels), "bias": self.rand(channels)}

        own, liger = self.own, self.liger
        self.add(
            Op(f"group_norm {rows}x{channels}x{length}", tensors, rows, ("x", "weight", "bias"),
               lambda x, weight, bias, **_: F.group_norm(x, groups, weight, bias, EPS), {}, {"full": 5}, "x",
               check_rows=4),
            ours=(lambda x, weight, bias, **_: own.group_norm(x, groups, weight, bias, EPS))
            if self.has("group_norm") else None,
            liger=lambda x, weight, bias, **_: liger.liger_group_norm(x, weight, bias, channels, groups, EPS),
        )  # fmt: skip

    def rope(self):
        batch, length, heads, key_heads, width = self.size((4, 4096, 32, 8, 128), (2, 16, 4, 2, 16))
        own, liger = self.own, self.liger

        def tensors(count):
            angles = torch.rand(1, length, width // 2, device=self.device).repeat(count, 1, 2) * 6.28
            return {"q": self.rand(count, length, heads, width), "k": self.rand(count, length, key_heads, width),
                    "cos": angles.cos().bfloat16(), "sin": angles.sin().bfloat16()}  # fmt: skip

        def ours(q, k, cos, sin, **_):
            turned = own.rope(q.flatten(0, 1), k.flatten(0, 1), cos.flatten(0, 1), sin.flatten(0, 1))
            return turned[0].view_as(q), turned[1].view_as(k)

        def ligers(q, k, cos, sin, **_):
            turned = liger.liger_rope(q.transpose(1, 2), k.transpose(1, 2), cos, sin)
            return turned[0].transpose(1, 2), turned[1].transpose(1, 2)

        self.add(
            Op(f"rope {batch}x{length}x({heads}+{key_heads})x{width}", tensors, batch, ("q", "k"), plain_rope, {},
               {"full": 4 * (heads + key_heads) / heads}, "q", check_rows=1),
            ours=ours, liger=ligers,
        )  # fmt: skip

    def gates(self):
        rows, width = self.size(16384, 64), self.size(14336, 128)
        own, liger = self.own, self.liger

        def tensors(count):
            return {"gate": self.rand(count, width), "up": self.rand(count, width)}

        def op(name, activation):
            return Op(f"{name} {rows}x{width}", tensors, rows, ("gate", "up"),
                      lambda gate, up, **_: activation(gate) * up, {}, {"full": 8}, "gate")  # fmt: skip

        self.add(op("swiglu", F.silu), ours=lambda gate, up, **_: own.swiglu(gate, up),
                 liger=lambda gate, up, **_: liger.liger_swiglu(gate, up))  # fmt: skip
        self.add(op("geglu", lambda x: F.gelu(x, approximate="tanh")),
                 ours=lambda gate, up, **_: own.geglu(gate, up, "tanh"),
                 liger=lambda gate, up, **_: liger.liger_geglu(gate, up))  # fmt: skip

    def embedding(self):
        rows, vocabulary, width = self.size((16384, 128256, 4096), (64, 99, 32))

        def tensors(count):
            return {"ids": self.targets(count, vocabulary=vocabulary), "weight": self.rand(vocabulary, width)}

        # Rows read, rows written, their gradients read; and the whole gradient written.
        self.add(
            Op(f"embedding {rows} of {vocabulary}x{width}", tensors, rows, ("weight",),
               lambda ids, weight, **_: F.embedding(ids, weight), {}, {"full": 1 + 3 * rows / vocabulary}, "weight"),
            ours=lambda ids, weight, **_: self.own.embedding(ids, weight), liger=liger_embedding,
        )  # fmt: skip

    def others(self):
        own, liger = self.own, self.liger
        rows, width = self.size((4096, 32064), (16, 128))
        self.add(
            Op(f"softmax {rows}x{width}", lambda count: {"x": self.rand(count, width)}, rows, ("x",),
               lambda x, **_: x.softmax(-1), {}, {"fwd": 2, "bwd": 3}, "x"),
            ours=(lambda x, **_: own.softmax(x)) if self.has("softmax") else None,
            liger=lambda x, **_: liger.liger_softmax(x),
        )  # fmt: skip
        rows, width = self.size((16384, 4096), (16, 128))

        def tensors(count):
            return {"x": self.rand(count, width), "alpha": self.rand(1), "gamma": self.rand(width),
                    "beta": self.rand(width)}  # fmt: skip

        self.add(
            Op(f"dyt {rows}x{width}", tensors, rows, ("x", "alpha", "gamma", "beta"),
               lambda x, alpha, gamma, beta, **_: gamma * torch.tanh(alpha * x) + beta, {},
               {"fwd": 2, "bwd": 3}, "x"),
            ours=(lambda x, alpha, gamma, beta, **_: own.dyt(x, alpha, gamma, beta)) if self.has("dyt") else None,
            liger=lambda x, alpha, gamma, beta, **_: liger.liger_dyt(x, alpha, gamma, beta),
        )  # fmt: skip

    def losses(self):
        rows, vocabulary = self.size(8192, 32), self.size(128256, 999)

        def tensors(count):
            return {"logits": self.rand(count, vocabulary), "target": self.targets(count, vocabulary=vocabulary)}

        self.add(
            Op(f"cross_entropy {rows}x{vocabulary}", tensors, rows, ("logits",), plain_cross_entropy, {},
               {"full": 2}, "logits"),
            ours=lambda logits, target, **_: self.own.cross_entropy(logits, target, 1 / len(target)),
            liger=lambda logits, target, **_: self.liger.liger_cross_entropy(logits, target),
        )  # fmt: skip

    def divergences(self):
        own, liger = self.own, self.liger

        def op(name, rows, vocabulary, dtype, plain, softmax):
            def tensors(count):
                q, p = (softmax(torch.randn(count, vocabulary, device=self.device), -1).to(dtype) for _ in range(2))
                return {"log_q": q, "log_p": p}

            label = "bf16" if dtype == torch.bfloat16 else "fp32"
            return Op(f"{name} {rows}x{vocabulary} {label}", tensors, rows, ("log_q",), plain, {}, {"full": 3}, "log_q")

        rows, vocabulary = self.size((8192, 32064), (16, 99))
        self.add(op("kl_div", rows, vocabulary, torch.float32, plain_kl_div, torch.log_softmax),
                 ours=lambda log_q, log_p, **_: own.kl_div(log_q, log_p, "batchmean", True),
                 liger=lambda log_q, log_p, **_: liger.liger_kl_div(log_q, log_p, reduction="batchmean",
                                                                    log_target=True))  # fmt: skip
        self.add(op("tvd", rows, vocabulary, torch.float32,
                    lambda log_q, log_p, **_: 0.5 * (log_q - log_p).abs().sum() / log_q.shape[0], torch.softmax),
                 ours=lambda log_q, log_p, **_: own.tvd(log_q, log_p, None, "batchmean"),
                 liger=lambda log_q, log_p, **_: liger.liger_tvd(log_q, log_p, reduction="batchmean"))  # fmt: skip
        rows, vocabulary = self.size((4096, 64128), (16, 99))
        self.add(op("jsd", rows, vocabulary, torch.float32, plain_jsd, torch.log_softmax),
                 ours=lambda log_q, log_p, **_: own.jsd(log_q, log_p),
                 liger=lambda log_q, log_p, **_: liger.liger_jsd(log_q, log_p))  # fmt: skip

    def products(self, forwards, chunk=2048):
        """Of a head over chunks of tokens: `forwards` of the logits, dX, dW."""

        def make(hidden, weight, **others):
            x = hidden.flatten(0, -2)
            n = min(chunk, x.shape[0])
            logits, dx, dw = x.new_empty(n, weight.shape[0]), torch.empty_like(x[:n]), torch.empty_like(weight)

            def run():
                for first in range(0, x.shape[0], n):
                    rows = x[first : first + n]
                    for _ in range(forwards):
                        torch.mm(rows, weight.t(), out=logits[: len(rows)])
                    torch.mm(logits[: len(rows)], weight, out=dx[: len(rows)])
                    torch.mm(logits[: len(rows)].t(), rows, out=dw)

            return run

        return make

    def heads(self):
        width, vocabulary = self.size(4096, 64), self.size(128256, 999)

        def tensors(count):
            return {"hidden": self.rand(count, width), "weight": self.rand(vocabulary, width, scale=0.02),
                    "target": self.targets(count, vocabulary=vocabulary)}  # fmt: skip

        def op(name, rows, plain, forwards):
            return Op(f"{name} {rows}x{width}x{vocabulary}", tensors, rows, ("hidden", "weight"), plain, {},
                      compiled=rows == self.size(16384, 48),
                      flops=2.0 * rows * width * vocabulary * (forwards + 2), unit="hidden",
                      products=self.products(forwards), passes={"full": 1})  # fmt: skip

        for rows in self.size((16384, 4096, 1024), (48, 16)):
            self.add(
                op("fused_linear_cross_entropy", rows, plain_head, 1),
                ours=lambda hidden, weight, target, **_: self.own.fused_linear_cross_entropy(
                    hidden, weight, target, None, 1 / len(target))[0],
                liger=lambda hidden, weight, target, **_: self.liger.liger_fused_linear_cross_entropy(
                    hidden, weight, target),
                liger_fp32=lambda hidden, weight, target, **_: self.liger.liger_fused_linear_cross_entropy(
                    hidden, weight, target, accum_dtype=torch.float32),
            )  # fmt: skip
        rows = self.size(16384, 48)
        self.add(op("fused_linear_logprob", rows, plain_logprob, 2), ours=our_logprob, liger=liger_logprob,
                 trl=trl_head(self.trl))  # fmt: skip

    def preferences(self):
        batch, length, width, vocabulary = self.size((16, 1024, 4096, 128256), (4, 8, 64, 999))

        def tensors(count):
            desirable = torch.arange(count, device=self.device) < count // 2
            return {"hidden": self.rand(count, length, width), "weight": self.rand(vocabulary, width, scale=0.02),
                    "target": self.targets(count, length, vocabulary=vocabulary),
                    "ref_hidden": self.rand(count, length, width),
                    "ref_weight": self.rand(vocabulary, width, scale=0.02), "desirable": desirable,
                    "kl": torch.zeros((), device=self.device)}  # fmt: skip

        for kind, forwards in (("dpo", 2), ("orpo", 1), ("kto", 2)):
            name = f"{kind}_head {batch}x{length}x{width}x{vocabulary}"
            self.add(
                Op(name, tensors, batch, ("hidden", "weight"), preference(kind, plain_logprob), {}, {"full": 1},
                   "hidden", compiled=False, flops=2.0 * batch * length * width * vocabulary * (forwards + 2),
                   products=self.products(forwards), check_rows=2),
                ours=preference(kind, our_logprob), liger=liger_preference(kind) if self.liger else None,
                trl=preference(kind, trl_head(self.trl)),
            )  # fmt: skip

    def linear_jsd(self):
        rows, width, teacher_width, vocabulary = self.size((8192, 2048, 4096, 128256), (16, 32, 64, 999))

        def tensors(count):
            return {"hidden": self.rand(count, width), "weight": self.rand(vocabulary, width, scale=0.02),
                    "teacher_hidden": self.rand(count, teacher_width),
                    "teacher_weight": self.rand(vocabulary, teacher_width, scale=0.02)}  # fmt: skip

        def products(hidden, weight, teacher_hidden, teacher_weight, **_):
            student = self.products(1)(hidden, weight)
            n = min(2048, len(teacher_hidden))
            logits = teacher_hidden.new_empty(n, vocabulary)

            def run():
                student()
                for first in range(0, len(teacher_hidden), n):
                    part = teacher_hidden[first : first + n]
                    torch.mm(part, teacher_weight.t(), out=logits[: len(part)])

            return run

        self.add(
            Op(f"fused_linear_jsd {rows}x{width}/{teacher_width}x{vocabulary}", tensors, rows, ("hidden", "weight"),
               plain_linear_jsd, {}, {"full": 1}, "hidden",
               flops=2.0 * rows * vocabulary * (3 * width + teacher_width), products=products),
            ours=(lambda hidden, weight, teacher_hidden, teacher_weight, **_: self.own.fused_linear_jsd(
                hidden, weight, teacher_hidden, teacher_weight)) if self.has("fused_linear_jsd") else None,
            liger=lambda hidden, weight, teacher_hidden, teacher_weight, **_: self.liger.liger_fused_linear_jsd(
                hidden, weight, teacher_hidden, teacher_weight),
        )  # fmt: skip
