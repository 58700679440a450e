"""What the service costs when it does nothing, and how soon it does something.

usage: bench_service.py [--rounds 20] [--json FILE]

- `liger-cli version`: wall time of the whole process (limit: 50 ms);
- an idle coordinator, with one worker connected: resident memory (limit: 50 MB);
- liger-trainer on SmolLM2-135M, files in the page cache: time from its start to the first training
  step's beginning (limit: 3 s).

Exits 1 when a median is over its limit.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / os.environ.get("BUILD", "build") / "bin"
os.environ.setdefault("LIGER_DATA_CACHE", "off")  # as in bench_env.py


def version_seconds(rounds):
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run([BIN / "liger-cli", "version"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]  # the first one reads the program from disk


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise SystemExit("the service did not come up")


def metric(address, name):
    """The sum of a metric's samples on a /metrics page."""
    import urllib.request

    page = urllib.request.urlopen(f"http://{address}/metrics", timeout=5).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(name))


def idle_bytes(folder):
    """VmRSS of a coordinator that has one worker and nothing to do."""
    ports_file = pathlib.Path(folder) / "ports.json"
    any_port = "127.0.0.1:0"
    coordinator = subprocess.Popen(
        [BIN / "liger-coordinator", "--data-dir", f"{folder}/c", "--ports-file", ports_file, "--listen", any_port,
         "--worker-listen", any_port, "--metrics-listen", any_port], stdout=subprocess.DEVNULL)  # fmt: skip
    worker = None
    try:
        ports = json.loads(wait_for(lambda: ports_file.exists() and ports_file.read_text()))
        worker = subprocess.Popen(
            [BIN / "liger-worker", "--data-dir", f"{folder}/w", "--coordinator", ports["worker"],
             "--metrics-listen", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        wait_for(lambda: metric(ports["metrics"], 'liger_workers{state="READY"}') == 1)
        time.sleep(5)
        status = pathlib.Path(f"/proc/{coordinator.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
    finally:
        for process in filter(None, (worker, coordinator)):
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def training_seconds(folder, model, rounds):
    """From the start of the process to its `training` line."""
    command = [
        BIN / "liger-trainer", "--spec", ROOT / "examples/demo_sft.yaml", "--output", f"{folder}/out",
        "--set", f"model.name={model}", "--set", f"dataset.name={ROOT}/tests/data/alpaca_en_demo.json",
        "--set", "training.eval_on_start=false", "--set", "training.sample_prompts=[]",
    ]  # fmt: skip
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.strip() == "training":
                times.append(time.perf_counter() - start)
                break
        else:
            raise SystemExit("liger-trainer did not train:\n" + "".join(seen))
        process.kill()
        process.wait()
    return times[1:]  # the first one reads the model from disk


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default=os.environ.get("LIGER_SMOLLM2_DIR", str(ROOT / ".cache/models-v2/smollm2-135m")))
    parser.add_argument("--json", help="write the result here as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="liger-bench-") as folder:
        rows = [
            ("liger-cli version", "ms", 1e3, 50, version_seconds(arguments.rounds)),
            ("idle coordinator, resident", "MB", 1e-6, 50, [idle_bytes(folder)]),
            ("liger-trainer to its first step", "s", 1, 3, training_seconds(folder, arguments.model, 5)),
        ]
    result, failed = {}, False
    print(f"{'':34}{'median':>9}{'least':>9}{'most':>9}{'limit':>9}")
    for name, unit, scale, limit, values in rows:
        values = [value * scale for value in values]
        median = statistics.median(values)
        failed |= median > limit
        result[name] = {"unit": unit, "median": median, "least": min(values), "most": max(values), "limit": limit}
        print(f"{name:34}{median:9.1f}{min(values):9.1f}{max(values):9.1f}{limit:9} {unit}")
    if arguments.json:
        json.dump(result, open(arguments.json, "w", encoding="utf-8"), indent=1)
    sys.exit(1 if failed else 0)


main()
