"""Where the time of a profiled step goes, from the trace that liger-trainer or torch.profiler wrote.

usage: trace_summary.py TRACE [--top 40]

liger-trainer writes one for LIGER_PROFILE=STEP:TRACE. Prints the time from the first GPU kernel to the end of the last,
how much of it the GPU was busy, and the kernels by the sum of their times, names cut at their template arguments; of a
trace without a GPU the operations of the CPU. Of a rank among several: how long NCCL was busy and for how much of that
the stream of the products had nothing to do (what communication exposes), and the rate of each collective.
"""

import argparse
import collections
import json
import re

KINDS = (
    ("products", r"gemm|nvjet|cutlass.*(gemm|bf16_s)|xmma|sm90_xmma|ampere_bf16"),
    ("attention", r"flash|fmha|cudnn.*(attn|sdpa)|attention"),
    ("copies and fills", r"Memcpy|Memset|memcpy|fill|copy"),
    ("ours", r"liger"),
    ("Triton", r"triton|_kernel$|^_\w+_kernel"),
)


def short(name):
    return re.sub(r"<.*", "", name.replace("void ", ""))[:90]


def kind(name):
    return next((label for label, pattern in KINDS if re.search(pattern, name)), "other")


def union(spans):
    """Length of the union of (begin, end)."""
    total, reach = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reach))
        reach = max(reach, end)
    return total


def table(rows, total, top):
    for name, (time, count) in sorted(rows.items(), key=lambda row: -row[1][0])[:top]:
        print(f"{time / 1e3:10.3f} {100 * time / total:6.1f} {count:7} {name}")


def gpu_events(path):
    """What ran on the GPU, of a trace; without a GPU the CPU's operations."""
    with open(path, encoding="utf-8") as file:
        events = [event for event in json.load(file)["traceEvents"] if event.get("ph") == "X"]
    chosen = [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    return chosen or [event for event in events if event.get("cat") == "cpu_op"]


def communication(events):
    """Milliseconds in which NCCL's kernels or its copies to other GPUs run, those in which the stream of the products is idle
    meanwhile, and (milliseconds, GB, GB/s, name) of each kind; None of a rank alone. GB: of kernels the whole tensors', of
    copies what this rank sends."""
    communicating = [event for event in events if re.search(r"ncclDevKernel|Memcpy PtoP", event["name"])]
    streams = collections.Counter()
    for event in events:
        if kind(event["name"]) == "products":
            streams[event["args"].get("stream")] += event["dur"]
    if not communicating or not streams:
        return None
    (computing, _), = streams.most_common(1)
    span = lambda event: (event["ts"], event["ts"] + event["dur"])  # noqa: E731
    busy = [span(event) for event in communicating]
    own = [span(event) for event in events if event["args"].get("stream") == computing]
    waited = union(busy + own) - union(own)
    sizes = {"Float": 4, "BFloat16": 2, "Half": 2, "Double": 8, "Long": 8, "Int": 4}
    rates = collections.defaultdict(lambda: [0.0, 0])
    for event in communicating:
        arguments = event["args"]
        whole = max(arguments.get("In msg nelems", 0), arguments.get("Out msg nelems", 0))
        copied = "bytes" in arguments
        name = f'{arguments.get("Collective name", "?")} {arguments.get("dtype", "?")}'
        row = rates["gathers' copies" if copied else name]
        row[0] += event["dur"]
        row[1] += arguments["bytes"] if copied else whole * sizes.get(arguments.get("dtype"), 0)
    kinds = [(time / 1e3, size / 1e9, size / max(time, 1e-9) / 1e3, name) for name, (time, size) in rates.items()]
    return union(busy) / 1e3, waited / 1e3, sorted(kinds, reverse=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("--top", type=int, default=40)
    options = parser.parse_args()
    chosen = gpu_events(options.trace)
    if not chosen:
        raise SystemExit(f"{options.trace} has no operations")
    spans = [(event["ts"], event["ts"] + event["dur"]) for event in chosen]
    total = max(end for _, end in spans) - min(begin for begin, _ in spans)
    print(f"{total / 1e3:.3f} ms, {len(chosen)} operations, busy {100 * union(spans) / total:.1f} %")
    if (found := communication(chosen)) is not None:
        busy, waited, kinds = found
        print(f"communication busy {busy:.3f} ms, of which the products' stream is idle for {waited:.3f} ms")
        for time, size, rate, name in kinds:
            print(f"{time:10.3f} ms {size:8.2f} GB {rate:8.1f} GB/s {name}")
    by_kind, by_name = (collections.defaultdict(lambda: (0.0, 0)) for _ in range(2))
    for event in chosen:
        for rows, name in ((by_kind, kind(event["name"])), (by_name, short(event["name"]))):
            time, count = rows[name]
            rows[name] = (time + event["dur"], count + 1)
    print(f"{'ms':>10} {'%':>6} {'count':>7}")
    table(by_kind, total, options.top)
    print()
    table(by_name, total, options.top)


if __name__ == "__main__":
    main()
