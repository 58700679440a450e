#!/usr/bin/env python3
"""100,000 fuzzed strings a tokenizer: `liger-trainer tokenize` against PyPI's
`tokenizers`, ids and text. The strings are the fixtures' (tools/fixtures/
text_fuzz.py), which begin with the 5,000 that every test run sees.

usage: tokenizer_fuzz_test.py LIGER_TRAINER REPO_ROOT [STRINGS]
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer


def run(program, folder, rows, *flags):
    """The command's output rows for the input rows."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row) + "\n")
        lines.seek(0)
        done = subprocess.run([program, "tokenize", "--model", str(folder), *flags], stdin=lines,
                              stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


def differences(program, folder, texts):
    """(what, text, got, expected) wherever they differ."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()  # what the file says of that is ignored, as transformers does
    expected = [e.ids for e in tokenizer.encode_batch(texts)]
    got = [row["ids"] for row in run(program, folder, ({"text": t} for t in texts))]
    assert len(got) == len(texts), (len(got), len(texts))
    found = [("ids", t, g, e) for t, g, e in zip(texts, got, expected) if g != e]
    decoded = tokenizer.decode_batch(expected, skip_special_tokens=False)
    back = [row["text"] for row in run(program, folder, ({"ids": e} for e in expected), "--decode")]
    assert len(back) == len(texts), (len(back), len(texts))
    return found + [("text", t, b, d) for t, b, d in zip(texts, back, decoded) if b != d]


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    sys.path.insert(0, str(root / "tools/fixtures"))
    import text_fuzz
    texts = text_fuzz.strings(int(sys.argv[3]) if len(sys.argv) > 3 else 100000)
    failed = False
    folders = sorted((root / "tests/golden/text/tokenizers").glob("*/tokenizer.json"))
    assert folders, "no tokenizers under " + str(root)
    for folder in (path.parent for path in folders):
        found = differences(program, folder, texts)
        print(folder.name, len(texts), "strings,", len(found), "differences", flush=True)
        for what, text, got, expected in found[:5]:
            print(" ", what, ascii(text), "got", ascii(got), "expected", ascii(expected))
        failed |= bool(found)
    sys.exit(failed)


if __name__ == "__main__":
    main()
