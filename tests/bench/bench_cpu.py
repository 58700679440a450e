"""SFT steps on the CPU: this trainer (LIGER, BASELINE) against transformers, interleaved.

usage: bench_cpu.py [--rounds 3] [--steps 6] [--warmup 2] [--model DIR] [--json FILE]

Every run takes the same steps: SmolLM2-135M-Instruct, fp32, AdamW, clipping,
batches of 4 Alpaca rows of at most 256 tokens in file order, tokenised once
with the model's chat template, loss on the answers. Tokens are real tokens on
both sides: transformers pads each batch to its longest row, as its collator
does; this trainer does not pad. Each side runs in the environment that its
users start it in: the plain one, and the agent's (huge pages for the heap). The
second table gives both sides the agent's and the same padded layout, so that it
shows the kernels and the loop alone.

Memory is the process's peak resident set; CPU time is user + system of the
measured steps. The last table is what each side's matrix products reach in
one process, at the shapes of the model.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from bench_env import ROOT
from step_runs import HUGE_PAGES, IGNORED, Run, RunFailed, summary, trainer_run, write_rows

BATCH, MAX_LENGTH, LEARNING_RATE = 4, 256, 2e-5


# ---- The rows, tokenised once for everybody -------------------------------


def tokenized_rows(model_dir, count):
    """The first `count` Alpaca rows: prompt and answer by the chat template, answer labelled."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    rows = []
    for row in json.load(open(ROOT / "tests/data/alpaca_en_demo.json", encoding="utf-8")):
        question = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        full = tokenizer.apply_chat_template(
            messages + [{"role": "assistant", "content": row["output"]}], tokenize=False
        )
        prompt_ids, ids = tokenizer(prompt)["input_ids"], tokenizer(full)["input_ids"][:MAX_LENGTH]
        labels = [IGNORED] * min(len(prompt_ids), len(ids)) + ids[len(prompt_ids) :]
        if any(label != IGNORED for label in labels):
            rows.append({"input_ids": ids, "labels": labels})
        if len(rows) == count:
            return rows
    raise SystemExit(f"only {len(rows)} rows; lower --steps")


def padded(rows):
    """Each batch's rows padded to its longest, as the collator pads; still (ids, labels) rows."""
    result = []
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        longest = max(len(row["input_ids"]) for row in batch)
        for row in batch:
            extra = longest - len(row["input_ids"])
            result.append({"input_ids": row["input_ids"] + [0] * extra, "labels": row["labels"] + [IGNORED] * extra})
    return result


# ---- The matrix products of both sides in one process -----------------------


def gemm_child(model_dir, library):
    """GFLOP/s of torch's product and of liger::linear, at the model's shapes."""
    import torch

    if pathlib.Path(library).exists():
        torch.ops.load_library(library)
    config = json.load(open(model_dir + "/config.json", encoding="utf-8"))
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    ours = getattr(torch.ops.liger, "linear", None)
    table = []
    for tokens, outputs, inputs in ((704, inner, hidden), (704, hidden, inner), (512, vocab, hidden)):
        x, w = torch.randn(tokens, inputs), torch.randn(outputs, inputs)
        entry = {"shape": f"{tokens}x{inputs} @ {inputs}x{outputs}"}
        for name, product in (("torch", torch.nn.functional.linear), ("liger", ours)):
            if product is None:
                continue
            call = (lambda: product(x, w)) if name == "torch" else (lambda: product(x, w, None))
            call()
            times = []
            for _ in range(7):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            entry[name] = 2 * tokens * outputs * inputs / statistics.median(times) / 1e9
        table.append(entry)
    print(json.dumps(table))


# ---- Measuring a run ----------------------------------------------------------


def job(model_dir, rows_file, mode, steps):
    return {
        "model": {"name": str(model_dir)},
        "dataset": {"uri": rows_file, "format": "TOKENIZED", "shuffle": False},
        "sft": {},
        "kernels": {"mode": mode},
        "training": {
            "max_steps": steps, "per_device_train_batch_size": BATCH, "max_length": MAX_LENGTH,
            "learning_rate": LEARNING_RATE, "precision": "FP32",
        },
        "resources": {"device_kind": "CPU"},
    }  # fmt: skip


def run_table(title, runs, rounds, warmup, steps, tokens):
    """Measures `runs` {name: command maker} in turn, `rounds` times; prints and returns the medians."""
    samples = {name: [] for name in runs}
    for _ in range(rounds):
        for name, make in runs.items():
            try:
                samples[name].append(make().measure(warmup, steps))
            except RunFailed as error:
                raise SystemExit(str(error)) from None
    result = {}
    print(f"\n{title}: {tokens} real tokens in {steps} steps, {rounds} rounds")
    print(f"{'':14}{'tokens/s':>10}{'spread':>18}{'peak GB':>9}{'CPU s/step':>12}{'first step s':>14}{'last loss':>11}")
    for name, list_ in samples.items():
        row = summary(list_, tokens)
        row["cpu_seconds_per_step"] = statistics.median(sample["cpu"] for sample in list_) / steps
        result[name] = row
        least, most = row["spread"]
        print(
            f"{name:14}{row['tokens_per_second']:10.1f}{least:9.1f}-{most:<8.1f}{row['peak_bytes'] / 1e9:9.2f}"
            f"{row['cpu_seconds_per_step']:12.2f}{row['first_step_seconds']:14.1f}{row['losses'][-1]:11.4f}"
        )
    return result


def ratios(result):
    base = result["transformers"]
    for name in ("LIGER", "BASELINE"):
        speed = result[name]["tokens_per_second"] / base["tokens_per_second"]
        memory = result[name]["peak_bytes"] / base["peak_bytes"]
        drift = max(abs(a - b) for a, b in zip(result[name]["losses"], base["losses"]))
        print(f"{name}: {speed:.2f}x transformers' tokens/s at {memory:.2f}x its memory; losses within {drift:.1e}")


def real_tokens(rows, warmup, steps):
    return sum(len(row["input_ids"]) for row in rows[warmup * BATCH : (warmup + steps) * BATCH])


def compare(arguments, folder):
    total = arguments.warmup + arguments.steps
    rows = tokenized_rows(arguments.model, total * BATCH)
    files = {"unpadded": f"{folder}/rows.jsonl", "padded": f"{folder}/padded.jsonl"}
    write_rows(files["unpadded"], rows)
    write_rows(files["padded"], padded(rows))
    tokens = real_tokens(rows, arguments.warmup, arguments.steps)
    print(
        f"{os.cpu_count()} cores, batch {BATCH}, max_length {MAX_LENGTH}; padding would add "
        f"{real_tokens(padded(rows), arguments.warmup, arguments.steps) / tokens:.2f}x"
    )

    def transformers(layout):
        prefix = HUGE_PAGES if layout == "padded" else []
        child = {"model": arguments.model, "rows": files["unpadded"], "steps": total, "batch": BATCH,
                 "objective": "sft", "variant": "plain", "dtype": "float32", "learning_rate": LEARNING_RATE,
                 "gradient_checkpointing": False, "device": "cpu"}  # fmt: skip
        program = str(pathlib.Path(__file__).with_name("hf_steps.py"))
        return lambda: Run([*prefix, sys.executable, program, json.dumps(child)], waits=True)

    def ours(mode, layout):
        spec = job(arguments.model, files[layout], mode, total)
        return lambda: trainer_run([arguments.trainer], mode, spec, folder)

    result = {}
    for title, layout in (("As each side runs", "unpadded"), ("Same padded layout", "padded")):
        runs = {"transformers": transformers(layout), "LIGER": ours("LIGER", layout), "BASELINE": ours("BASELINE", layout)}
        result[layout] = run_table(title, runs, arguments.rounds, arguments.warmup, arguments.steps, tokens)
        ratios(result[layout])
    gemm = subprocess.run(
        [sys.executable, __file__, "--child", "gemm", "--model", arguments.model, "--library", arguments.library],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    result["gemm"] = json.loads(gemm)
    print("\nMatrix products, GFLOP/s in one process (torch / liger::linear)")
    for entry in result["gemm"]:
        print(f"  {entry['shape']:28} {entry['torch']:8.0f} {entry.get('liger', float('nan')):8.0f}")
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    build = ROOT / os.environ.get("BUILD", "build")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--model", default=os.environ.get("LIGER_SMOLLM2_DIR", str(ROOT / ".cache/models-v2/smollm2-135m")))
    parser.add_argument("--trainer", default=str(build / "bin/liger-trainer"))
    parser.add_argument("--library", default=str(build / "lib/libliger_kernels.so"))
    parser.add_argument("--json", help="write the result here as well")
    parser.add_argument("--child", choices=["gemm"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "gemm":
        return gemm_child(arguments.model, arguments.library)
    folder = tempfile.mkdtemp(prefix="liger-bench-")
    try:
        result = compare(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.json:
        json.dump(result, open(arguments.json, "w", encoding="utf-8"), indent=1)


if __name__ == "__main__":
    main()
