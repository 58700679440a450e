"""A coordinator and a worker as processes of their own, for tests that are written in Python."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
ANY_PORT = "127.0.0.1:0"


def wait_for(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port():
    """For programs that cannot tell which port they took."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]


def write_inputs(work):
    """models/tiny (to be used with model.random_init), datasets/tiny.jsonl and, with a row that is none, bad.jsonl."""
    model, datasets = work / "models/tiny", work / "datasets"
    model.mkdir(parents=True)
    datasets.mkdir()
    config = json.loads((ROOT / "tests/golden/models/tiny/gqa_tied_v5/config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 4096}))  # the tokenizer has more than 97
    for file in (ROOT / "tests/golden/data/chat").iterdir():
        shutil.copy(file, model)
    rows = [json.dumps({"prompt": f"What is {i} plus one?", "completion": f" It is {i + 1}."}) for i in range(64)]
    (datasets / "tiny.jsonl").write_text("\n".join(rows) + "\n")
    (datasets / "bad.jsonl").write_text("\n".join(rows[:16] + ['{"prompt": "unfinished'] + rows[16:]) + "\n")


class Service:
    """`bin` holds the programs; `work`, which write_inputs filled, becomes the folder of everything."""

    def __init__(self, bin, work, environment=None, worker_flags=()):
        self.bin, self.work = pathlib.Path(bin), pathlib.Path(work)
        self.environment = os.environ | (environment or {})
        self.worker_flags = list(worker_flags)
        self.processes = {}
        self.ports = None

    def start(self):
        self.start_coordinator()
        data = self.work
        self.spawn("liger-worker", "--coordinator", self.ports["worker"], "--data-dir", data / "worker", "--model-root",
                   data / "models", "--dataset-root", data / "datasets", "--output-root", data / "outputs",
                   "--inventory-interval", "0.5", "--metrics-listen", ANY_PORT, *self.worker_flags)
        wait_for(lambda: json.loads(self.cli("workers", "-o", "json")).get("workers"), "a worker")
        self.worker_metrics = "127.0.0.1:" + wait_for(self.worker_metrics_port, "the worker's metrics port")
        return self

    def start_coordinator(self):
        file = self.work / "ports.json"
        file.unlink(missing_ok=True)
        ports = self.ports or {"api": ANY_PORT, "worker": ANY_PORT, "metrics": ANY_PORT}
        process = self.spawn("liger-coordinator", "--data-dir", self.work / "coordinator", "--listen", ports["api"],
                             "--worker-listen", ports["worker"], "--metrics-listen", ports["metrics"], "--ports-file",
                             self.work / "ports.json")

        def served():
            assert process.poll() is None, "liger-coordinator ended:\n" + self.log("liger-coordinator")
            return file.exists() and file.read_text()

        self.ports = json.loads(wait_for(served, "liger-coordinator serves"))

    def spawn(self, program, *arguments):
        with open(self.work / f"{program}.log", "a") as log:
            self.processes[program] = subprocess.Popen(
                [str(self.bin / program), *map(str, arguments)], stdout=log, stderr=subprocess.STDOUT,
                env=self.environment)
        return self.processes[program]

    def log(self, program):
        return (self.work / f"{program}.log").read_text()

    def worker_metrics_port(self):
        found = re.search(r"metrics and health on port (\d+)", self.log("liger-worker"))
        return found and found[1]

    def cli(self, *arguments, check=True):
        run = subprocess.run([str(self.bin / "liger-cli"), "--address", self.ports["api"],
                              *map(str, arguments)], capture_output=True, text=True, timeout=300, env=self.environment)
        if check and run.returncode != 0:
            raise AssertionError(f"liger-cli {arguments} ended with {run.returncode}:\n{run.stdout}{run.stderr}\n"
                                 f"{self.log('liger-worker')[-3000:]}")
        return run.stdout

    def stop(self, *programs):
        """Of all programs, or of those named; each must end well."""
        for program in programs or ("liger-worker", "liger-coordinator"):
            process = self.processes.pop(program, None)
            if process is None or process.poll() is not None:
                continue
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, f"{program} ended with {process.returncode}:\n{self.log(program)[-3000:]}"
