"""MB/s of this project's tokenizer and of PyPI's `tokenizers`, on one thread and the same lines, runs in
turn. usage: bench_tokenizer.py TOKENIZER_BENCH MODEL_DIR...

Prints a line for each folder with the best of its runs.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUNS, MEGABYTES = 4, 8
TEXTS = ("wiki_demo.txt", "c4_demo.jsonl", "alpaca_en_demo.json")


def speeds(command, name):
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(float(speed), int(ids)) for speed, ids in re.findall(name + r" ([0-9.]+) MB/s \((\d+) ids", out)]


def main():
    ours, *folders = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        text = b"".join((ROOT / "tests/data" / name).read_bytes() for name in TEXTS)
        path = pathlib.Path(work) / "text"
        path.write_bytes(text * (MEGABYTES * 1_000_000 // len(text) + 1))
        print(f"{'tokenizer':<16}{'ours MB/s':>12}{'tokenizers':>12}{'ratio':>8}")
        for folder in folders:
            best = {"ours": 0.0, "tokenizers": 0.0}
            ids = set()
            for _ in range(RUNS):
                for name, command in (("ours", [ours]), (
                        "tokenizers", [sys.executable, ROOT / "tools/fixtures/tokenizer_bench.py"])):
                    for speed, count in speeds([*command, folder, path, "1"], name):
                        best[name] = max(best[name], speed)
                        ids.add(count)
            assert len(ids) == 1, f"{folder}: other numbers of ids: {ids}"
            print(f"{pathlib.Path(folder).name:<16}{best['ours']:>12.1f}{best['tokenizers']:>12.1f}"
                  f"{best['ours'] / best['tokenizers']:>8.2f}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main()
