"""Times of ops: CUDA events with the L2 cache overwritten before each run; a wall clock on the CPU."""

import time

import torch

FLUSH_BYTES = 1 << 28
# Keeps the GPU busy while Python enqueues the op (some 0.5 ms at 1.7 GHz).
COVER_CYCLES = 800_000


class Timer:
    def __init__(self, device):
        self.gpu = device == "cuda"
        self.filler = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device) if self.gpu else None

    def once(self, fn):
        """Milliseconds of one call, and its result."""
        if not self.gpu:
            start = time.perf_counter()
            result = fn()
            return (time.perf_counter() - start) * 1e3, result
        self.filler.zero_()
        torch.cuda._sleep(COVER_CYCLES)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        result = fn()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end), result


def repeats(guess_ms, budget_ms, least, most):
    return int(min(most, max(least, budget_ms / max(guess_ms, 1e-3))))


def quantiles(times):
    ordered = sorted(times)
    return {f"p{p}_ms": ordered[int(p / 100 * (len(ordered) - 1))] for p in (20, 50, 80)}


def median_ms(timer, fn, count=15):
    fn()
    return quantiles([timer.once(fn)[0] for _ in range(count)])["p50_ms"]


class Ceilings:
    """Of this machine, in this process: a device copy, and a bf16 product of 8192 cubed (512 on a CPU)."""

    def __init__(self, timer, device):
        n, size = ((1 << 29, 8192) if timer.gpu else (1 << 22, 512))
        a = torch.randn(n, device=device, dtype=torch.bfloat16)
        b = torch.empty_like(a)
        self.bytes_per_ms = 2 * a.nbytes / median_ms(timer, lambda: b.copy_(a))
        del a, b
        m, k = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
        out = torch.empty_like(m)
        self.flops_per_ms = 2 * size**3 / median_ms(timer, lambda: torch.mm(m, k, out=out))

    def as_json(self):
        return {"copy_gb_s": self.bytes_per_ms / 1e6, "gemm_tflops": self.flops_per_ms / 1e9}
