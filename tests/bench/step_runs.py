"""What the step benchmarks share: tokenised rows, job files, running a program and reading its steps.

A program prints `step N/...` after each optimizer step, as liger-trainer does, and may print
`peak memory (KIND) NUMBER UNIT` after it. Steps are timed between those lines by this side's clock, for
all programs alike.
"""

import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time

IGNORED = -100
# As the agent and the installed launcher start a trainer.
HUGE_PAGES = ["env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"]
UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")


def read_rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def trainer_run(trainer, name, spec, folder, ends_early=False):
    """A run of liger-trainer (a command) on a job (a JobSpec as a dictionary)."""
    output = f"{folder}/out"
    shutil.rmtree(output, ignore_errors=True)
    path = f"{folder}/{name}.json"
    with open(path, "w", encoding="utf-8") as out:
        json.dump(spec, out)
    return Run([*HUGE_PAGES, *trainer, "--spec", path, "--output", output], output=output, ends_early=ends_early)


class RunFailed(Exception):
    """The program ended badly; the text is the end of what it printed."""


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Run:
    """One run of a program.

    output: liger-trainer's folder, whose metrics.jsonl has the losses to all digits; else they are read from the lines.
    waits: the program prints `ready` and goes on at a line of its standard input, so that its imports can happen
    while another runs. ends_early: it is killed after its last step's lines (what it saves then is not measured).
    """

    command: list
    output: str | None = None
    waits: bool = False
    ends_early: bool = False
    process: subprocess.Popen | None = None

    def start(self):
        if self.process is None:
            self.errors = tempfile.TemporaryFile("w+")
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE if self.waits else None, stdout=subprocess.PIPE,
                stderr=self.errors, text=True)  # fmt: skip

    def measure(self, warmup, steps):
        """Wall and CPU seconds of `steps` steps after `warmup`, losses, memory. Raises RunFailed."""
        self.start()
        begin = time.perf_counter()
        if self.waits:
            self.let_go()
        marks, losses, first_step, log, memory, killed = {}, [], None, [], {}, False
        for line in self.process.stdout:
            log.append(line)
            peak = re.match(r"peak memory \((.+)\) ([\d.]+) (\w+)", line)
            if peak:
                memory[peak[1]] = float(peak[2]) * UNITS[peak[3]]
            elif self.ends_early and warmup + steps in marks:
                killed = True
                self.process.kill()
                break
            if line.startswith("step "):
                words = line.split()
                marks[int(words[1].split("/")[0])] = (time.perf_counter(), cpu_seconds(self.process.pid))
                losses.append(float(words[words.index("loss") + 1]))
                first_step = first_step or time.perf_counter() - begin
        self.process.stdout.close()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = status
        if (status != 0 and not killed) or warmup + steps not in marks:
            self.errors.seek(0)
            raise RunFailed("".join(log[-20:]) + self.errors.read()[-4000:] + f"\nfailed: {' '.join(self.command)}")
        if self.output is not None:
            losses = self.logged_losses()
        wall, cpu = (marks[warmup + steps][i] - marks[warmup][i] for i in range(2))
        return {"wall": wall, "cpu": cpu, "rss": usage.ru_maxrss * 1024, "memory": memory, "first_step": first_step,
                "losses": losses}  # fmt: skip

    def let_go(self):
        if self.process.stdout.readline().strip() == "ready":
            self.process.stdin.write("go\n")
            self.process.stdin.flush()

    def logged_losses(self):
        """From the result, or from the attempt's folder of a run that did not come to its end."""
        attempt = f"{self.output}.attempt-{self.process.pid}"
        folder = self.output if os.path.exists(f"{self.output}/metrics.jsonl") else attempt
        losses = [line["loss"] for line in read_rows(f"{folder}/metrics.jsonl") if "loss" in line]
        shutil.rmtree(attempt, ignore_errors=True)
        return losses

    def abandon(self):
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            self.process.wait()


def peak_bytes(sample):
    """Memory that the GPU's allocator handed out; resident memory where there is no GPU."""
    return sample["memory"].get("allocated", sample["rss"])


def summary(samples, tokens):
    """One row of a table from a program's runs; tokens: real tokens of the measured steps."""
    rates = sorted(tokens / sample["wall"] for sample in samples)
    return {
        "tokens_per_second": statistics.median(rates),
        "spread": [rates[0], rates[-1]],
        "peak_bytes": max(peak_bytes(sample) for sample in samples),
        "first_step_seconds": statistics.median(sample["first_step"] for sample in samples),
        "losses": samples[0]["losses"],
    }
