#!/usr/bin/env python3
"""One device, DDP and FSDP on the devices of this host, with random weights and random tokenised rows.

usage: parallel_bench.py [--trainer COMMAND] [--devices N] [--cases check,1b,8b,8b-short,8b-whole,1b-long,8b-long] [--steps N] [--rounds N]
                         [--length N] [--scratch FOLDER]
                         [--json FILE] [--only STRATEGY,STRATEGY] [--fsdp2] [--save-steps N] [--cpu]

check: SmolLM2's shape in fp32, the same global batch on one device, by DDP, by FSDP (shard FULL and OPTIMIZER) and, on four
devices, hybrid. Exit code 1 if a loss or gradient norm is more than 1e-5 (relative) from one device's.
1b, 8b: llama3.2-1b with 8 rows of 2048 tokens a device, llama3-8b with 4 of 4096 and checkpointing (FSDP alone), in bf16 with
stochastic rounding: tokens/s a device, share of one device's speed, peak memory of the rank that has most.
8b-short, 8b-whole: the same of 64 rows of 512 tokens a device with checkpointing, and of 3 of 4096 without.
Of several GPUs the last step is traced on rank 0, and not in these: how long communication is busy in it, for how much of that
the products wait, and the bandwidth that each kind reaches (trace_summary.py).
1b-long, 8b-long: one row of --length tokens a step, with checkpointing, on one device and with its tokens shared by all
devices (sequence_parallel_size), by DDP (1b-long) and FSDP.
--fsdp2: beside it, in turn with FSDP, PyTorch's FSDP2 with transformers and liger-kernel (fsdp2_steps.py) on the same rows.
--save-steps: each run of 1b and 8b once more with a checkpoint every N steps (the two newest kept): for how long each save
holds up the steps, beside the time from one save to the next.
--cpu: a two-layer model on CPUs with Gloo, to try the script itself.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys

from trace_summary import communication, gpu_events

ROOT = pathlib.Path(__file__).resolve().parents[2]
STRATEGIES = {
    "DDP": "{strategy: DDP}",
    "FSDP": "{strategy: FSDP}",
    "FSDP OPTIMIZER": "{strategy: FSDP, shard: OPTIMIZER}",
    "FSDP hybrid 2": "{strategy: FSDP, hybrid_shard_size: 2}",
}
LONG = {
    "DDP sequence": "{{strategy: DDP, sequence_parallel_size: {devices}}}",
    "FSDP sequence": "{{strategy: FSDP, sequence_parallel_size: {devices}}}",
}
FSDP2 = "FSDP2 + Liger"
# After a strategy in --only (FSDP+keep+offload): what checkpointing keeps of a block, and where.
KEEPING = {"keep": ", gradient_checkpointing_keep_attention: true", "offload": ", activation_offloading: true"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trainer", default=str(ROOT / "build/bin/liger-trainer"))
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--cases", default="check,1b")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--length", type=int, default=32768, help="tokens of a row of 1b-long and 8b-long")
    parser.add_argument("--scratch", default="/tmp/liger-parallel-bench")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each strategy of 1b and 8b, in turn")
    parser.add_argument("--json")
    parser.add_argument("--only", default="", help="of 1b and 8b only these strategies (one device, DDP, FSDP, FSDP+keep+offload, ...)")
    parser.add_argument("--fsdp2", action="store_true")
    parser.add_argument("--save-steps", type=int, default=0)
    parser.add_argument("--cpu", action="store_true")
    return parser.parse_args()


def write_rows(path, count, length, vocabulary):
    draw = random.Random(7)
    with open(path, "w") as file:
        for _ in range(count):
            file.write(json.dumps({"input_ids": [draw.randrange(vocabulary) for _ in range(length)]}) + "\n")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Bench:
    def __init__(self, options):
        self.options = options
        self.scratch = pathlib.Path(options.scratch)
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.rows = []

    def model(self, name):
        """A folder without weights, which are drawn. The tokenizer, which rows of ids do not need, is another model's."""
        config = json.loads((ROOT / f"common/model_shapes/{name}.json").read_text())
        config["max_position_embeddings"] = max(config["max_position_embeddings"], self.options.length)
        if self.options.cpu:
            config |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                       "num_key_value_heads": 2, "vocab_size": 512, "head_dim": 16}
        folder = self.scratch / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config))
        shutil.copy(ROOT / "tests/golden/text/tokenizers/phi3/tokenizer.json", folder)
        return folder, config["vocab_size"]

    def run(self, case, name, devices, training, parallel, rows):
        """The logged steps of one job; exits with its log when it fails."""
        folder = self.scratch / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        model, _ = self.model(name)
        kind = "CPU" if self.options.cpu else "CUDA"
        spec = (f"model: {{name: {model}, random_init: true}}\n"
                f"dataset: {{name: {rows}, format: TOKENIZED, shuffle: false}}\nsft:\n"
                f"training: {{logging_steps: 1, max_steps: {self.options.steps}, seed: 3, {training}}}\n"
                f"resources: {{device_kind: {kind}, count: {devices}}}\n")
        if devices > 1:
            strategy = STRATEGIES.get(parallel) or LONG[parallel].format(devices=devices)
            spec += f"parallel: {strategy}\n"
        (folder / "job.yaml").write_text(spec)
        command = shlex.split(self.options.trainer) + ["--spec", str(folder / "job.yaml"), "--output", str(folder / "out")]
        return self.steps_of(command, folder, devices, f"{case} {parallel}")

    def run_fsdp2(self, case, name, devices, batch, checkpointing, rows):
        folder = self.scratch / "run"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "out").mkdir(parents=True)
        model, _ = self.model(name)
        job = {"config": str(model), "rows": str(rows), "steps": self.options.steps, "batch": batch, "learning_rate": 1e-5,
               "gradient_checkpointing": checkpointing, "cpu": self.options.cpu,
               "metrics": str(folder / "out/metrics.jsonl")}  # fmt: skip
        script = pathlib.Path(__file__).with_name("fsdp2_steps.py")
        return self.steps_of([sys.executable, str(script), json.dumps(job)], folder, devices, f"{case} FSDP2")

    def steps_of(self, command, folder, devices, what):
        port, ranks, trace = free_port(), [], folder / "trace.json"
        self.traced = devices > 1 and not self.options.cpu and "--spec" in command
        for rank in range(devices):
            env = dict(os.environ, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(devices),
                       LOCAL_WORLD_SIZE=str(devices), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
                       LIGER_DATA_CACHE="off")
            if self.traced and rank == 0:
                env["LIGER_PROFILE"] = f"{self.options.steps}:{trace}"
            log = open(folder / f"log{rank}", "w")
            ranks.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
        try:
            codes = [rank.wait() for rank in ranks]
        finally:  # also of a bench that is ended itself
            for rank in ranks:
                rank.kill()
                rank.wait()
        if any(codes):
            for rank in range(devices):
                print(f"-- {what}, rank {rank}, exit code {codes[rank]}:\n"
                      + (folder / f"log{rank}").read_text()[-2000:], flush=True)
            return None
        predicted = re.findall(r"(?m)^peak memory .* predicted (.*) with rows", (folder / "log0").read_text())
        self.predicted = f"  (predicted {predicted[-1]})" if predicted else ""
        self.communication = communication(gpu_events(trace)) if self.traced else None
        lines = [json.loads(line) for line in open(folder / "out/metrics.jsonl")]
        steps = [line for line in lines if "loss" in line]
        shutil.rmtree(folder / "out")
        shutil.rmtree(folder / "out.checkpoints", ignore_errors=True)
        return steps

    def record(self, case, strategy, devices, steps):
        timed = steps[2 : len(steps) - self.traced] or steps
        speed = sum(s["tokens_per_second"] for s in timed) / len(timed) / devices
        memory = max((v for s in steps for k, v in s.items() if k.startswith("memory/") and k.endswith("allocated")),
                     default=max((v for s in steps for k, v in s.items() if k.startswith("memory/")), default=0))
        row = {"case": case, "strategy": strategy, "devices": devices, "tokens_per_second_a_device": speed,
               "peak_memory_gib": memory, "losses": [s["loss"] for s in steps]}
        single = next((r for r in self.rows if r["case"] == case and r["devices"] == 1), None)
        share = f" {speed / single['tokens_per_second_a_device']:6.3f} of one" if single else ""
        stalls = [s["save_stall_seconds"] for s in steps if "save_stall_seconds" in s]
        stall = ""
        if self.options.save_steps and stalls:
            row["save_stall_seconds"] = stalls
            interval = self.options.save_steps * sum(s["step_seconds"] for s in timed) / len(timed)
            stall = (f"  saves held up steps for {' '.join(f'{s:.3f}' for s in stalls)} s, "
                     f"at most {100 * max(stalls) / interval:.1f} % of the {interval:.1f} s between two")
        print(f"{case:6} {strategy:15} x{devices} {speed:10.0f} tokens/s a device  {memory:7.2f} GiB{self.predicted}{share}  "
              f"loss {steps[0]['loss']:.5f} to {steps[-1]['loss']:.5f}{stall}", flush=True)
        if self.communication is not None:
            busy, waited, kinds = self.communication
            row["communication"] = {"busy_ms": busy, "exposed_ms": waited, "kinds": kinds}
            rates = ", ".join(f"{name} {rate:.0f} GB/s" for time, size, rate, name in kinds if size > 0.1)
            print(f"       communication busy {busy:.1f} ms, exposed {waited:.1f} ms; {rates}", flush=True)
        self.rows.append(row)

    def strategies(self):
        return [s for s in STRATEGIES if s != "FSDP hybrid 2" or self.options.devices == 4]

    def check(self):
        devices, length = self.options.devices, 64 if self.options.cpu else 256
        _, vocabulary = self.model("smollm2-135m")
        rows = self.scratch / "check.jsonl"
        write_rows(rows, 4 * devices * self.options.steps, length, vocabulary)
        setting = f"precision: FP32, learning_rate: 1e-4, max_length: {length}, per_device_train_batch_size: "
        expected = self.run("check", "smollm2-135m", 1, setting + str(4 * devices), "", rows)
        ok = expected is not None
        for strategy in self.strategies() if ok else []:
            steps = self.run("check", "smollm2-135m", devices, setting + "4", strategy, rows)
            worst = float("inf") if steps is None else max(
                abs(a[key] - b[key]) / abs(b[key]) for a, b in zip(steps, expected) for key in ("loss", "grad_norm"))
            ok &= worst <= 1e-5
            print(f"check  {strategy:15} x{devices} largest relative difference of losses and gradient norms "
                  f"{worst:.2e} {'ok' if worst <= 1e-5 else 'FAIL'}", flush=True)
        return ok

    def speed(self, case, name, batch, length, extra, strategies):
        devices = self.options.devices
        _, vocabulary = self.model(name)
        if self.options.cpu:
            batch, length = 2, 64
        rows = self.scratch / f"{case}.jsonl"
        write_rows(rows, batch * (1 if strategies[0] in LONG else devices) * self.options.steps, length, vocabulary)
        precision = "FP32" if self.options.cpu else "BF16_STOCHASTIC"
        setting = (f"precision: {precision}, learning_rate: 1e-5, max_length: {length}, "
                   f"per_device_train_batch_size: {batch}{extra}")
        ok = True
        known = ["one device"] + strategies
        wanted = [s for s in self.options.only.split(",") if s.split("+")[0] in known] if self.options.only else known
        for strategy in (wanted + ([FSDP2] if self.options.fsdp2 else [])) * self.options.rounds:
            base, *more = strategy.split("+")
            count = 1 if base == "one device" else devices
            if strategy == FSDP2:
                steps = self.run_fsdp2(case, name, count, batch, "checkpointing" in extra, rows)
            else:
                fields = setting + "".join(KEEPING[name] for name in more)
                steps = self.run(case, name, count, fields, base, rows)
                if self.options.save_steps and steps is not None:
                    self.record(case, strategy, count, steps)
                    saving = f", save_steps: {self.options.save_steps}, save_total_limit: 2"
                    steps = self.run(case, name, count, fields + saving, base, rows)
            if steps is not None:
                self.record(case, strategy, count, steps)
            ok &= steps is not None
        return ok


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(options)
    ok = True
    checkpointing = ", gradient_checkpointing: true"
    for case in options.cases.split(","):
        if case == "check":
            ok &= bench.check()
        elif case == "1b":
            ok &= bench.speed("1b", "llama3.2-1b", 8, 2048, "", bench.strategies())
        elif case == "8b":
            ok &= bench.speed("8b", "llama3-8b", 4, 4096, checkpointing, ["FSDP"])
        elif case == "8b-short":
            ok &= bench.speed(case, "llama3-8b", 64, 512, checkpointing, ["FSDP"])
        elif case == "8b-whole":
            ok &= bench.speed(case, "llama3-8b", 3, 4096, "", ["FSDP"])
        elif case == "1b-long":
            ok &= bench.speed(case, "llama3.2-1b", 1, options.length, checkpointing, list(LONG))
        elif case == "8b-long":
            ok &= bench.speed(case, "llama3-8b", 1, options.length, checkpointing, ["FSDP sequence"])
        else:
            sys.exit(f"parallel_bench: no case {case}; there are check, 1b, 8b, 8b-short, 8b-whole, 1b-long, 8b-long")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(bench.rows))
    sys.exit(0 if ok else 1)


main()
