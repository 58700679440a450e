"""Our ops beside Liger's, TRL's and PyTorch's, interleaved on the same tensors.

usage: compare_liger.py [--ops TEXT,TEXT] [--columns NAME,NAME] [--compile TEXT,TEXT | --no-compile]
                        [--compile-limit N] [--quick] [--tiny] [--seconds N] [--json FILE] [--list]

Loads our library (torch.ops.load_library) beside liger-kernel 0.8.5 and trl 1.16.0 where those are
installed; LIGER_KERNEL_IMPL=cutedsl chooses Liger's CuTe kernels where its compiler is installed. Without a GPU the
shapes are tiny, Liger is left out (it is Triton), and the table shows that the program works, no more.

A line an op, mode and implementation: p20, p50 and p80 of its times; what share of the machine's ceiling that is
(bytes that must move over a device copy's rate, or FLOPs over the rate of an 8192^3 bf16 product, both measured here);
for heads, time over that of the same products through cuBLAS; the most memory beyond tensors given and returned;
relative L2 error of results and gradients against float64, over the op's first rows.

--ops: only ops whose name contains one of these; --columns: only these implementations; --list: says what there is of
both, and runs nothing; --compile: torch.compile's column for these ops alone (it takes 10 s and more an op and mode);
--compile-limit: seconds that one compilation may take, forward and backward together, after which its row says so and
the op's other modes are not tried; --quick: fewer runs; --seconds: skip what is left after that. The whole table with
torch.compile takes longer than a lent GPU's ten minutes: two calls, one with --no-compile and one with --columns
ours,compile, make it.
"""

import argparse
import contextlib
import signal
import sys
import time

import torch

import bench_env
from compare_ops import COLUMNS, COMPILE, OURS, Table
from op_timing import Ceilings, Timer, quantiles, repeats


def as_tuple(value):
    return value if isinstance(value, (tuple, list)) else (value,)


class Case:
    """One op's tensors: masters, and the working copies that every implementation gets.

    Some implementations overwrite their inputs, so the copies are restored before each run.
    """

    def __init__(self, op, rows):
        torch.manual_seed(1)
        self.op = op
        self.masters = op.tensors(rows)
        self.leaves = {name: tensor.clone() for name, tensor in self.masters.items()}
        with torch.no_grad():
            self.upstream = [torch.randn_like(out) if out.dim() else torch.ones_like(out)
                             for out in as_tuple(op.plain(**self.masters))]  # fmt: skip

    def restored(self):
        with torch.no_grad():
            for name, tensor in self.leaves.items():
                tensor.copy_(self.masters[name])
        result = {name: tensor.detach() for name, tensor in self.leaves.items()}
        for name in self.op.grads:
            result[name].requires_grad_()
        self.grads = [grad.clone() for grad in self.upstream]  # written into by some, too
        return result

    def given(self):
        """The storages that an implementation is handed."""
        return {tensor.untyped_storage().data_ptr() for tensor in [*self.leaves.values(), *self.grads]}

    def backward(self, outs, leaves):
        grads = [grad.to(out.dtype) for out, grad in zip(outs, self.grads, strict=True)]
        return torch.autograd.grad(outs, [leaves[name] for name in self.op.grads], grads)

    def full(self, call, leaves):
        # A view between leaf and op, as in a model: ops that write in place may not write into leaves.
        outs = as_tuple(call(**{name: tensor.view_as(tensor) for name, tensor in leaves.items()}))
        return [*outs, *self.backward(outs, leaves)]

    def runner(self, mode, call):
        """(prepare, timed): prepare is not timed; timed takes what it returned."""
        if mode == "fwd":
            def forward(leaves):
                with torch.no_grad():
                    return as_tuple(call(**leaves))

            return self.restored, forward
        if mode == "full":
            return self.restored, lambda leaves: self.full(call, leaves)

        def prepare():
            leaves = self.restored()
            return as_tuple(call(**{name: tensor.view_as(tensor) for name, tensor in leaves.items()})), leaves

        return prepare, lambda state: self.backward(*state)


def errors(op, calls, device):
    """{implementation: worst relative L2 error of its results and gradients} on fewer rows."""
    case = Case(op, min(op.rows, op.check_rows))

    def double(tensor):
        return tensor.double() if tensor.is_floating_point() else tensor

    exact = {name: double(tensor).detach() for name, tensor in case.masters.items()}
    for name in op.grads:
        exact[name].requires_grad_()
    case.grads = [grad.double() for grad in case.upstream]
    expected = [tensor.detach() for tensor in case.full(op.plain, exact)]
    result = {}
    for name, call in calls.items():
        if name == COMPILE:  # a compilation for these rows alone would cost more time than it tells
            result[name] = None
            continue
        try:
            got = case.full(call, case.restored())
        except Exception as error:
            result[name] = first_line(error)
            release(device)
            continue
        result[name] = max(
            ((ours.double() - ref).norm() / ref.norm().clamp(min=1e-30)).item()
            for ours, ref in zip(got, expected, strict=True)
        )
        del got
    return result


def release(device):
    """Hands cached memory back, so that the next one is not short of it."""
    if device == "cuda":
        torch.cuda.empty_cache()


def first_line(error):
    return f"{type(error).__name__}: {str(error).strip()}".split("\n")[0][:160]


def extra_bytes(case, prepare, timed):
    """Most memory that a run takes beyond its inputs and results."""
    state = prepare()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    results = timed(state)
    torch.cuda.synchronize()
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in results}
    given = case.given()
    kept = sum(size for pointer, size in storages.items() if pointer not in given)
    return max(0, torch.cuda.max_memory_allocated() - before - kept)


def named(op, parts):
    """Whether the op's name contains one of these, separated by commas."""
    return any(part in op.name for part in parts.split(","))


class CompileTimeout(BaseException):
    """No Exception, which the compiler would take for a failed attempt of its own."""


@contextlib.contextmanager
def time_limit(seconds):
    """Raises CompileTimeout inside after so many seconds; 0: never."""

    def give_up(*_):
        raise CompileTimeout(f"torch.compile took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5 if seconds else 0)  # again, where the first was swallowed
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def compiled(call):
    """torch.compile of it, as a limit can stop it: all in this thread, in which signals arrive; no CUDA graphs, which
    would hand out the same memory again."""
    import torch._functorch.config
    import torch._inductor.config

    torch._dynamo.reset()
    torch._functorch.config.force_non_lazy_backward_lowering = True  # else by autograd's thread
    torch._inductor.config.triton.cudagraphs = False
    return torch.compile(call, dynamic=False)


class Comparison:
    def __init__(self, arguments, device):
        self.arguments, self.device = arguments, device
        self.timer = Timer(device)
        self.deadline = time.monotonic() + arguments.seconds
        self.ceilings = Ceilings(self.timer, device)
        self.rows, self.left_out = [], []

    def calls(self, op):
        calls = dict(op.impls)
        if self.arguments.no_compile or not named(op, self.arguments.compile):
            calls.pop(COMPILE, None)
        if self.arguments.columns:
            calls = {name: call for name, call in calls.items() if name in self.arguments.columns}
        if COMPILE in calls:
            calls[COMPILE] = compiled(calls[COMPILE])
        return calls

    def run(self, op):
        if time.monotonic() > self.deadline:
            self.left_out.append(op.name)
            return
        calls = self.calls(op)
        if not calls:
            return
        if OURS not in op.impls:
            print(f"{op.name:44} not in our library", flush=True)
        wrong = errors(op, calls, self.device)
        for name in [name for name, error in wrong.items() if isinstance(error, str)]:
            calls.pop(name)
            self.report({"op": op.name, "mode": "-", "implementation": name, "failed": wrong[name]})
        release(self.device)
        case = Case(op, op.rows)
        for mode in op.passes:
            self.time_mode(op, case, mode, calls, wrong)
        self.state = None
        del case
        release(self.device)

    def time_mode(self, op, case, mode, calls, wrong):
        runs, first, given_up = {}, {}, []
        for name, call in calls.items():
            prepare, timed = case.runner(mode, call)
            try:
                with time_limit(self.arguments.compile_limit if name == COMPILE else 0):
                    first[name] = min(self.time_once(prepare, timed) for _ in range(2))
                runs[name] = (prepare, timed)
            except (Exception, CompileTimeout) as error:
                self.state = None
                release(self.device)
                self.report({"op": op.name, "mode": mode, "implementation": name, "failed": first_line(error)})
                if isinstance(error, CompileTimeout):
                    given_up.append(name)
        for name in given_up:
            calls.pop(name)
        least, most, budget = (3, 10, 60) if self.arguments.quick else (7, 60, 400)
        times = {name: [] for name in runs}
        counts = {name: repeats(first[name], budget, least, most) for name in runs}
        for turn in range(max(counts.values(), default=0)):
            for name, (prepare, timed) in runs.items():
                if turn < counts[name]:
                    times[name].append(self.time_once(prepare, timed))
        products = self.products_ms(op, case)
        release(self.device)
        for name, (prepare, timed) in runs.items():
            extra = None
            if self.device == "cuda":
                self.state = None
                extra = extra_bytes(case, prepare, timed)
            self.report(self.row(op, case, mode, name, times[name], products, extra, wrong[name]))

    def time_once(self, prepare, timed):
        self.state = None  # before the next one is made
        self.state = prepare()
        return self.timer.once(lambda: timed(self.state))[0]

    def products_ms(self, op, case):
        if op.products is None:
            return None
        self.state = None
        run = op.products(**case.masters)
        run()
        return quantiles([self.timer.once(run)[0] for _ in range(3 if self.arguments.quick else 7)])["p50_ms"]

    def row(self, op, case, mode, name, times, products, extra, error):
        row = {"op": op.name, "mode": mode, "implementation": name, **quantiles(times), "runs": len(times)}
        if op.flops:
            row["gemm_share"] = op.passes[mode] * op.flops / self.ceilings.flops_per_ms / row["p50_ms"]
            if products:
                row["over_products"] = row["p50_ms"] / products
        else:
            bytes_ = op.passes[mode] * case.masters[op.unit].nbytes
            row["copy_share"] = bytes_ / self.ceilings.bytes_per_ms / row["p50_ms"]
        row["extra_mb"] = extra / 1e6 if extra is not None else None
        row["relative_error"] = error
        return row

    def report(self, row):
        self.rows.append(row)
        label = f"{row['op']:44} {row['mode']:5} {row['implementation']:8}"
        if "failed" in row:
            print(f"{label} failed: {row['failed']}", flush=True)
            return
        share = row.get("copy_share", row.get("gemm_share"))
        over = f"{row['over_products']:6.2f}x" if "over_products" in row else "      -"
        extra = f"{row['extra_mb']:9.1f}" if row["extra_mb"] is not None else "        -"
        wrong = f"{row['relative_error']:9.1e}" if row["relative_error"] is not None else "        -"
        print(
            f"{label}{row['p20_ms']:9.3f} {row['p50_ms']:9.3f} {row['p80_ms']:9.3f} {share:6.3f} {over} {extra}"
            f" {wrong}",
            flush=True,
        )


def columns(text):
    names = text.split(",")
    for name in names:
        if name not in COLUMNS:
            raise argparse.ArgumentTypeError(f"{name}: no such column; there are {', '.join(COLUMNS)}")
    return names


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default=bench_env.build_path("lib/libliger_kernels.so"))
    parser.add_argument("--ops", default="", help="parts of names, separated by commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes; always so without a GPU")
    parser.add_argument("--compile", default="", help="torch.compile only for ops with these parts of names")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--compile-limit", type=int, default=60, help="seconds that a compilation may take")
    parser.add_argument("--columns", type=columns, help="only these implementations, separated by commas")
    parser.add_argument("--list", action="store_true", help="what --ops and --columns may name")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no op after this long")
    parser.add_argument("--json", help="write the result here as well")
    return parser.parse_args()


def main():
    arguments = parse()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.ops.load_library(arguments.library)
    table = Table(device, tiny=arguments.tiny or device == "cpu")
    if arguments.list:
        for op in table.ops:
            print(f"{op.name}: {', '.join(op.impls)}")
        return 0
    facts = bench_env.facts()
    bench_env.print_facts(facts)
    comparison = Comparison(arguments, device)
    if table.liger_reason:
        print(f"without Liger: {table.liger_reason}")
    ceilings = comparison.ceilings.as_json()
    print(f"copy {ceilings['copy_gb_s']:.0f} GB/s, bf16 product {ceilings['gemm_tflops']:.0f} TFLOP/s")
    print(f"{'op':44} {'mode':5} {'by':8}{'p20 ms':>9} {'p50 ms':>9} {'p80 ms':>9} {'share':>6} {'of prod':>7} "
          f"{'extra MB':>9} {'error':>9}")  # fmt: skip
    chosen = [op for op in table.ops if named(op, arguments.ops)]
    if not chosen:
        raise SystemExit(f"--ops {arguments.ops}: no such op; there are {', '.join(op.name for op in table.ops)}")
    for op in chosen:
        comparison.run(op)
    if comparison.left_out:
        print(f"left out, --seconds {arguments.seconds:.0f} were over: {', '.join(comparison.left_out)}")
    bench_env.write_json(arguments.json, {**facts, **ceilings, "rows": comparison.rows, "left_out": comparison.left_out})
    # A library of ours that fails is a defect; another's is a fact to report.
    return 1 if any("failed" in row and row["implementation"] == OURS for row in comparison.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
