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

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH, MAX_LENGTH, LEARNING_RATE = 4, 256, 2e-5
IGNORED = -100
# As the agent and the installed launcher start a trainer.
HUGE_PAGES = ["env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"]


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


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")


# ---- The transformers side (a process of its own) ---------------------------


def transformers_child(model_dir, rows_file, steps):
    """Prints a line after each step. The recipe is Trainer's: fused AdamW, clip 1.0, linear decay."""
    import torch
    from transformers import AutoModelForCausalLM, get_scheduler

    rows = [json.loads(line) for line in open(rows_file, encoding="utf-8")]
    torch.manual_seed(42)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model.config.use_cache = False
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    scheduler = get_scheduler("linear", optimizer, 0, steps)
    print("start", flush=True)
    for step in range(steps):
        batch = rows[step * BATCH : (step + 1) * BATCH]
        longest = max(len(row["input_ids"]) for row in batch)
        ids = torch.zeros(BATCH, longest, dtype=torch.long)
        mask = torch.zeros(BATCH, longest, dtype=torch.long)
        labels = torch.full((BATCH, longest), IGNORED)
        for i, row in enumerate(batch):
            length = len(row["input_ids"])
            ids[i, :length] = torch.tensor(row["input_ids"])
            mask[i, :length] = 1
            labels[i, :length] = torch.tensor(row["labels"])
        targets = (labels[:, 1:] != IGNORED).sum()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, num_items_in_batch=targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        print(f"step {step + 1}/{steps} loss {loss.item():.9g}", flush=True)


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


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(command, warmup, steps, metrics=None):
    """Runs a program that prints a line `step N/...` after each step; times steps after warm-up.

    Losses are in those lines, or, to all digits, in the file `metrics` that the program leaves.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    start = time.perf_counter()
    marks, losses, first_step, log = {}, [], None, []
    for line in process.stdout:
        log.append(line)
        if not line.startswith("step "):
            continue
        step = int(line.split()[1].split("/")[0])
        marks[step] = (time.perf_counter(), cpu_seconds(process.pid))
        words = line.split()
        if metrics is None:
            losses.append(float(words[words.index("loss") + 1]))
        first_step = first_step or time.perf_counter() - start
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status != 0 or warmup + steps not in marks:
        raise SystemExit("".join(log[-20:]) + errors + f"\nfailed: {' '.join(command)}")
    if metrics is not None:
        lines = [json.loads(line) for line in open(metrics, encoding="utf-8")]
        losses = [line["loss"] for line in lines if "loss" in line]
    wall = marks[warmup + steps][0] - marks[warmup][0]
    cpu = marks[warmup + steps][1] - marks[warmup][1]
    return {"wall": wall, "cpu": cpu, "rss": usage.ru_maxrss * 1024, "first_step": first_step, "losses": losses}


def trainer_command(trainer, model_dir, rows_file, mode, steps, folder):
    output = f"{folder}/out"
    shutil.rmtree(output, ignore_errors=True)
    spec = {
        "model": {"name": str(model_dir)},
        "dataset": {"uri": rows_file, "format": "TOKENIZED", "shuffle": False},
        "sft": {},
        "kernels": {"mode": mode},
        "training": {
            "max_steps": steps, "per_device_train_batch_size": BATCH, "max_length": MAX_LENGTH,
            "learning_rate": LEARNING_RATE, "precision": "FP32",
        },
        "resources": {"device_kind": "CPU"},
    }
    path = f"{folder}/{mode}.json"
    json.dump(spec, open(path, "w", encoding="utf-8"))
    return HUGE_PAGES + [trainer, "--spec", path, "--output", output], f"{output}/metrics.jsonl"


def run_table(title, runs, rounds, warmup, steps, tokens):
    """Measures `runs` {name: command maker} in turn, `rounds` times; prints and returns the medians."""
    samples = {name: [] for name in runs}
    for _ in range(rounds):
        for name, make in runs.items():
            command, metrics = make()
            samples[name].append(measure(command, warmup, steps, metrics))
    result = {}
    print(f"\n{title}: {tokens} real tokens in {steps} steps, {rounds} rounds")
    print(f"{'':14}{'tokens/s':>10}{'spread':>18}{'peak GB':>9}{'CPU s/step':>12}{'first step s':>14}{'last loss':>11}")
    for name, list_ in samples.items():
        rates = sorted(tokens / sample["wall"] for sample in list_)
        row = {
            "tokens_per_second": statistics.median(rates),
            "spread": [rates[0], rates[-1]],
            "peak_bytes": max(sample["rss"] for sample in list_),
            "cpu_seconds_per_step": statistics.median(sample["cpu"] for sample in list_) / steps,
            "first_step_seconds": statistics.median(sample["first_step"] for sample in list_),
            "losses": list_[0]["losses"],
        }
        result[name] = row
        print(
            f"{name:14}{row['tokens_per_second']:10.1f}{rates[0]:9.1f}-{rates[-1]:<8.1f}{row['peak_bytes'] / 1e9:9.2f}"
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
        command = HUGE_PAGES if layout == "padded" else []
        command = command + [sys.executable, __file__, "--child", "transformers", "--model", arguments.model,
                   "--rows", files["unpadded"], "--steps", str(total)]  # fmt: skip
        return lambda: (command, None)

    def ours(mode, layout):
        return lambda: trainer_command(arguments.trainer, arguments.model, files[layout], mode, total, folder)

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
    parser.add_argument("--model", default=os.environ.get("LIGER_SMOLLM2_DIR", str(ROOT / ".cache/models/smollm2-135m")))
    parser.add_argument("--trainer", default=str(build / "bin/liger-trainer"))
    parser.add_argument("--library", default=str(build / "lib/libliger_kernels.so"))
    parser.add_argument("--json", help="write the result here as well")
    parser.add_argument("--child", choices=["transformers", "gemm"], help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child == "transformers":
        return transformers_child(arguments.model, arguments.rows, arguments.steps)
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
