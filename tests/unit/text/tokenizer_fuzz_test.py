#!/usr/bin/env python3
"""100,000 fuzzed strings a tokenizer: `liger-trainer tokenize` against PyPI's `tokenizers`, and for
the folders that have only a tokenizer.model against `sentencepiece` and against transformers'
conversion of tiktoken's ranks; ids and text. The strings are the fixtures' (tools/fixtures/
text_fuzz.py), which begin with the 5,000 that every test run sees.

usage: tokenizer_fuzz_test.py LIGER_TRAINER REPO_ROOT [STRINGS [NAME...]]
"""
import json
import pathlib
import subprocess
import sys
import tempfile

from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools/fixtures"))
import model_file  # noqa: E402
import text_fuzz  # noqa: E402

SENTENCEPIECE_BEGINS_WITH = b"\n"  # the tag of the first piece; base64 has no line feed there


class RanksConverter(TikTokenConverter):
    """transformers' own, which asks for `tiktoken` only to read the file."""

    def load_tiktoken_bpe(self, path):
        return model_file.ranks(pathlib.Path(path))


def converted_ranks(path):
    return RanksConverter(vocab_file=str(path), pattern=model_file.LLAMA3_SPLIT).converted()


def reference(folder):
    """What is right of the folder's tokenizer."""
    if (folder / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()  # what the file says of that is ignored, as transformers does
        return tokenizer
    path = folder / "tokenizer.model"
    if path.read_bytes().startswith(SENTENCEPIECE_BEGINS_WITH):
        return model_file.of_sentencepiece(path)
    converted = converted_ranks(path)
    return model_file.of_tiktoken(path, lambda text: converted.encode(text, add_special_tokens=False).ids)


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
    tokenizer = reference(folder)
    expected = [e.ids for e in tokenizer.encode_batch(texts)]
    got = [row["ids"] for row in run(program, folder, ({"text": t} for t in texts))]
    assert len(got) == len(texts), (len(got), len(texts))
    found = [("ids", t, g, e) for t, g, e in zip(texts, got, expected) if g != e]
    decoded = tokenizer.decode_batch(expected, skip_special_tokens=False)
    back = [row["text"] for row in run(program, folder, ({"ids": e} for e in expected), "--decode")]
    assert len(back) == len(texts), (len(back), len(texts))
    return found + [("text", t, b, d) for t, b, d in zip(texts, back, decoded) if b != d]


def report(program, folder, texts):
    """Prints what differs; whether something did."""
    found = differences(program, folder, texts)
    print(folder.name, len(texts), "strings,", len(found), "differences", flush=True)
    for what, text, got, expected in found[:5]:
        print(" ", what, ascii(text), "got", ascii(got), "expected", ascii(expected))
    return bool(found)


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    texts = text_fuzz.strings(int(sys.argv[3]) if len(sys.argv) > 3 else 100000)
    folders = sorted({path.parent for path in (root / "tests/golden/text/tokenizers").glob("*/tokenizer.*")})
    folders = [folder for folder in folders if not sys.argv[4:] or folder.name in sys.argv[4:]]
    assert folders, "no tokenizers under " + str(root)
    failed = [folder.name for folder in folders if report(program, folder, texts)]
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
