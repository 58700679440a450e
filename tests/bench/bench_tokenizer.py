"""This project's tokenizer and PyPI's `tokenizers` (encode_batch_fast) on the same threads and lines, runs in turn.
usage: bench_tokenizer.py TOKENIZER_BENCH MODEL_DIR...

Prints a line for each folder and number of threads with the best of its runs, as rows of docs/benchmarks.md: MB a second
of CPU time, which other work on the machine hardly changes, and MB a second.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNS, REPEATS, MEGABYTES = 2, 2, 1
THREADS = ("1", "2")
TEXTS = ("wiki_demo.txt", "c4_demo.jsonl", "alpaca_en_demo.json")


def speeds(command, name):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(name + r" ([0-9.]+) MB/s, ([0-9.]+) a CPU second \((\d+) ids", out)
    return [(float(cpu), float(wall), int(ids)) for wall, cpu, ids in found]


def main():
    ours, *folders = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        text = b"".join((ROOT / "tests/data" / name).read_bytes() for name in TEXTS)
        path = pathlib.Path(work) / "text"
        path.write_bytes(text * (MEGABYTES * 1_000_000 // len(text) + 1))
        print("| tokenizer | threads | ours, MB/CPU s | tokenizers | ratio | ours, MB/s | tokenizers | ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for folder in folders:
            for threads in THREADS:
                report(ours, folder, path, threads)


def report(ours, folder, path, threads):
    runs = {"ours": [], "tokenizers": []}
    for _ in range(RUNS):
        for name, command in (("ours", [ours]), (
                "tokenizers", [sys.executable, ROOT / "tools/fixtures/tokenizer_bench.py"])):
            runs[name] += speeds([*command, folder, path, str(REPEATS), threads], name)
    counts = {ids for found in runs.values() for *_, ids in found}
    assert len(counts) == 1, f"{folder}: other numbers of ids: {counts}"
    cells = []
    for measure in (0, 1):
        mine, theirs = (max(run[measure] for run in runs[name]) for name in ("ours", "tokenizers"))
        cells += [f"{mine:.1f}", f"{theirs:.1f}", f"{mine / theirs:.2f}"]
    print(f"| {pathlib.Path(folder).name} | {threads} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
