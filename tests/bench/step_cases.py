"""Cases of the step benchmarks: the same steps by several programs in turn, each run a process of its own.

LIGER and BASELINE are liger-trainer in its two kernel modes; transformers, +liger and +trl are the variants of
hf_steps.py. All start from the same weights and take the same tokenised rows in the same order.
"""

import argparse
import dataclasses
import json
import pathlib
import random
import shlex
import shutil
import sys
import tempfile
import time

import bench_env
import bench_models
from step_runs import Run, RunFailed, summary, trainer_run, write_rows

OURS = ("LIGER", "BASELINE")
# After one of ours (LIGER+keep+offload): what checkpointing keeps of a block, and where.
KEEPING = {"keep": "gradient_checkpointing_keep_attention", "offload": "activation_offloading"}
VARIANTS = {"transformers": "plain", "transformers+liger": "liger", "transformers+trl": "trl"}
LEARNING_RATE = 1e-5


@dataclasses.dataclass
class Case:
    name: str
    model: str
    objective: str
    batch: int  # rows, or pairs, a step
    length: int
    checkpointing: bool
    programs: tuple
    rows: list | None = None  # tokenised; None: random ones of `length` tokens


def random_rows(objective, count, length, vocabulary):
    """Dense rows: every sequence has `length` random tokens, and no two share more than chance."""
    draw = random.Random(7)

    def ids(n):
        return [draw.randrange(3, vocabulary) for _ in range(n)]

    if objective == "sft":
        rows = [ids(length) for _ in range(count)]
        return [{"input_ids": row, "labels": row} for row in rows]
    prompt = 2
    if objective == "kto":
        rows = [ids(length) for _ in range(count)]
        return [{"input_ids": row, "labels": [-100] * prompt + row[prompt:], "label": i % 2 == 0}
                for i, row in enumerate(rows)]  # fmt: skip
    return [{"prompt_ids": ids(prompt), "chosen_ids": ids(length - prompt), "rejected_ids": ids(length - prompt)}
            for _ in range(count)]  # fmt: skip


def row_tokens(row):
    """Real tokens, each sequence whole: the prompt of a pair counts twice."""
    if "input_ids" in row:
        return len(row["input_ids"])
    return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])


def add_arguments(parser):
    parser.add_argument("--cases", default="", help="parts of names, separated by commas")
    parser.add_argument("--programs", default="", help="only these, separated by commas")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after this long")
    parser.add_argument("--trainer", default=bench_env.build_path("bin/liger-trainer"), help="command of liger-trainer")
    parser.add_argument("--scratch", help="folder for weights and rows (default: a temporary one)")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU, as a smoke test")
    parser.add_argument("--fail", action="store_true", help="exit 1 when a program failed, or the first losses differ")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    parser.add_argument("--json", help="write the result here as well")


class Bench:
    def __init__(self, arguments, folder):
        import torch

        self.arguments, self.folder = arguments, folder
        self.device = "cuda" if torch.cuda.is_available() and not arguments.tiny else "cpu"
        if self.device == "cpu" and not arguments.tiny:
            raise SystemExit("no GPU here; --tiny is for a CPU")
        self.total = arguments.warmup + arguments.steps
        self.deadline = time.monotonic() + arguments.seconds

    def model(self, case):
        return bench_models.write_folder(self.folder, case.model, self.device)

    def rows_file(self, case, rows):
        path = f"{self.folder}/rows.jsonl"
        write_rows(path, rows)
        return path

    def make_run(self, case, program, rows_file):
        model = str(self.model(case))
        mode, *keeping = program.split("+")
        if mode in OURS:
            job = self.job(case, mode, model, rows_file)
            job["training"] |= {KEEPING[name]: True for name in keeping}
            return trainer_run(shlex.split(self.arguments.trainer), program, job, self.folder, ends_early=True)
        job = {
            "model": model, "rows": rows_file, "steps": self.total, "batch": case.batch, "objective": case.objective,
            "variant": VARIANTS[program], "dtype": "bfloat16" if self.device == "cuda" else "float32",
            "learning_rate": LEARNING_RATE, "gradient_checkpointing": case.checkpointing, "device": self.device,
        }  # fmt: skip
        program = pathlib.Path(__file__).with_name("hf_steps.py")
        return Run([sys.executable, str(program), json.dumps(job)], waits=True)

    def job(self, case, mode, model, rows_file):
        return {
            "model": {"name": model},
            "dataset": {"uri": rows_file, "format": "TOKENIZED", "shuffle": False},
            case.objective: {},
            "kernels": {"mode": mode},
            "training": {
                "max_steps": self.total, "per_device_train_batch_size": case.batch, "max_length": case.length,
                "learning_rate": LEARNING_RATE, "gradient_checkpointing": case.checkpointing,
                "precision": "BF16_STOCHASTIC" if self.device == "cuda" else "FP32",
            },
            "resources": {"device_kind": "CUDA" if self.device == "cuda" else "CPU"},
        }  # fmt: skip

    def run(self, case):
        """{program: row}; a program that fails is not run again."""
        count = self.total * case.batch
        vocabulary = bench_models.CONFIGS[case.model]["vocab_size"]
        rows = case.rows[:count] if case.rows else random_rows(case.objective, count, case.length, vocabulary)
        if len(rows) < count:
            raise SystemExit(f"{case.name}: {len(rows)} rows, {count} needed; lower --steps")
        tokens = sum(row_tokens(row) for row in rows[self.arguments.warmup * case.batch :])
        print(f"\n{case.name}: {tokens} real tokens in {self.arguments.steps} steps", flush=True)
        samples, failed = self.samples(case, self.rows_file(case, rows))
        result = {name: summary(list_, tokens) for name, list_ in samples.items() if list_}
        result.update({name: {"failed": reason} for name, reason in failed.items()})
        print_table(result)
        return result

    def samples(self, case, rows_file):
        wanted = self.arguments.programs.split(",") if self.arguments.programs else case.programs
        programs = [name for name in case.programs if name in wanted]
        if self.device == "cpu" and case.objective == "sft" and "transformers+liger" in programs:
            programs.remove("transformers+liger")  # its loss is a Triton kernel
        order = [name for _ in range(self.arguments.rounds) for name in programs]
        samples, failed = {name: [] for name in programs}, {}
        runs = [None] * len(order)
        for i, name in enumerate(order):
            if name in failed:
                continue
            if time.monotonic() > self.deadline:
                failed.setdefault(name, "not run: --seconds were over") if not samples[name] else None
                continue
            runs[i] = runs[i] or self.make_run(case, name, rows_file)
            self.start_ahead(case, order, runs, i + 1, failed, rows_file)
            try:
                samples[name].append(runs[i].measure(self.arguments.warmup, self.arguments.steps))
                print(f"  {name}: {samples[name][-1]['wall']:.2f} s", flush=True)
            except RunFailed as error:
                failed[name] = reason(str(error))
                print(f"  {name} failed: {failed[name]}", flush=True)
        for run in runs:
            if run is not None:
                run.abandon()
        return samples, failed

    def start_ahead(self, case, order, runs, i, failed, rows_file):
        """The next program's imports happen beside this one's steps; it touches no GPU before its turn."""
        if i < len(order) and order[i] in VARIANTS and order[i] not in failed:
            runs[i] = self.make_run(case, order[i], rows_file)
            runs[i].start()


def reason(text):
    if "out of memory" in text:
        return "out of memory"
    lines = [line for line in text.strip().split("\n") if "rror" in line]
    return (lines or text.strip().split("\n"))[-1][:300]


def first_losses_apart(result):
    """That the programs take the same step: the relative spread of their first losses."""
    firsts = [row["losses"][0] for row in result.values() if "losses" in row]
    return (max(firsts) - min(firsts)) / abs(firsts[0]) if firsts else 0.0


def print_table(result):
    print(f"{'':20}{'tokens/s':>10}{'spread':>20}{'peak GB':>9}{'of +liger':>10}{'first s':>9}{'first loss':>12}{'last':>10}")
    base = result.get("transformers+liger", {}).get("tokens_per_second")
    for name, row in result.items():
        if "failed" in row:
            print(f"{name:20} failed: {row['failed']}")
            continue
        least, most = row["spread"]
        ratio = f"{row['tokens_per_second'] / base:.3f}" if base else "-"
        print(f"{name:20}{row['tokens_per_second']:10.0f}{least:10.0f}-{most:<9.0f}{row['peak_bytes'] / 1e9:9.2f}{ratio:>10}"
              f"{row['first_step_seconds']:9.1f}{row['losses'][0]:12.5f}{row['losses'][-1]:10.5f}")  # fmt: skip
    plain, ours = result.get("transformers", {}), result.get("BASELINE", {})
    if "peak_bytes" in plain and "peak_bytes" in ours:
        speed, memory = (ours[key] / plain[key] for key in ("tokens_per_second", "peak_bytes"))
        print(f"BASELINE over plain transformers: {speed:.3f} of the speed, {memory:.3f} of the memory (goal: within 5 %)")
    print(f"losses of the first step differ by {first_losses_apart(result):.1e} of themselves")


def main(description, make_cases, extend=None):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    if extend:
        extend(parser)
    arguments = parser.parse_args()
    wanted = arguments.cases.split(",")
    cases = [case for case in make_cases(arguments) if any(part in case.name for part in wanted)]
    if arguments.list or not cases:
        raise SystemExit("\n".join(case.name for case in cases) or f"--cases {arguments.cases}: no such case")
    folder = arguments.scratch or tempfile.mkdtemp(prefix="liger-bench-")
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        bench = Bench(arguments, folder)
        facts = bench_env.facts()
        bench_env.print_facts(facts)
        result = {**facts, "cases": {}}
        for case in cases:
            result["cases"][case.name] = bench.run(case)
            bench_env.write_json(arguments.json, result)  # after each: a run that is cut short leaves what it had
        rows = [row for case in result["cases"].values() for row in case.values()]
        apart = max(first_losses_apart(case) for case in result["cases"].values())
        if arguments.fail and (any("failed" in row for row in rows) or apart > 1e-5):
            raise SystemExit(f"a program failed, or first losses differ by {apart:.1e}")
    finally:
        if not arguments.scratch:
            shutil.rmtree(folder, ignore_errors=True)
