#!/usr/bin/env python3
"""Published tokenizers, out of pinned PyPI packages, on 5,000 fuzzed strings and tests/data: Mistral's
SentencePiece models of four generations against `sentencepiece`; Llama 3's ranks, as the package has
them and as transformers converts them to a tokenizer.json, against PyPI's `tokenizers`.

usage: real_tokenizers_test.py LIGER_TRAINER REPO_ROOT

The packages are kept in REPO_ROOT/.cache/tokenizers.
"""
import base64
import pathlib
import shutil
import subprocess
import sys
import zipfile

import sentencepiece
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from tokenizer_fuzz_test import differences, run

PACKAGES = ("llama-models==0.3.0", "mistral-common==1.8.5")
MISTRAL = {"v1": "tokenizer.model.v1", "v2": "mistral_instruct_tokenizer_240216.model.v2",
           "v3": "mistral_instruct_tokenizer_240323.model.v3", "v7": "mistral_instruct_tokenizer_241114.model.v7"}
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
BOS = 128000  # of Llama 3


def fetch(folder):
    """The packages' tokenizer files as model folders; done once."""
    if (folder / "llama3/tokenizer.model").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
                    "--only-binary=:all:", "-d", folder, *PACKAGES], check=True)
    members = {f"mistral_{v}": f"mistral_common/data/{name}" for v, name in MISTRAL.items()}
    members["llama3"] = "llama_models/llama3/tokenizer.model"  # last
    for name, member in members.items():
        wheel, = folder.glob(member.split("/")[0] + "-*.whl")
        (folder / name).mkdir(exist_ok=True)
        with zipfile.ZipFile(wheel) as z, z.open(member) as source, open(folder / name / "tokenizer.model", "wb") as out:
            shutil.copyfileobj(source, out)


class Llama3Converter(TikTokenConverter):
    """transformers' own, which asks for `tiktoken` only to read the file."""

    def load_tiktoken_bpe(self, path):
        lines = (line.split() for line in pathlib.Path(path).read_bytes().splitlines() if line)
        return {base64.b64decode(token): int(rank) for token, rank in lines}


def report(name, texts, found):
    print(name, len(texts), "strings,", len(found), "differences", flush=True)
    for item in found[:3]:
        print(" ", ascii(item)[:400])
    return bool(found)


def sentencepiece_differences(program, folder, texts):
    sp = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    got = [row["ids"] for row in run(program, folder, ({"text": t} for t in texts))]
    expected = [[sp.bos_id()] + sp.encode(t) for t in texts]
    return [(t, g, e) for t, g, e in zip(texts, got, expected) if g != e]


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    sys.path.insert(0, str(root / "tools/fixtures"))
    import text_fuzz
    folder = root / ".cache/tokenizers"
    fetch(folder)
    # Without what would be a special token of some of them.
    texts = [t for t in text_fuzz.strings(5000) if t and not any(mark in t for mark in ("<", "[", "]"))]
    texts += [line for name in ("wiki_demo.txt", "c4_demo.jsonl")
              for line in (root / "tests/data" / name).read_text(encoding="utf-8").split("\n") if line
              and not any(mark in line for mark in ("<s>", "</s>", "<unk>", "[INST]", "<|"))]
    assert len(texts) > 3000, len(texts)
    failed = False
    for version in MISTRAL:
        model = folder / f"mistral_{version}"
        failed |= report(model.name, texts, sentencepiece_differences(program, model, texts))

    ranks, converted = folder / "llama3", folder / "llama3_json"
    converted.mkdir(exist_ok=True)
    Llama3Converter(vocab_file=str(ranks / "tokenizer.model"), pattern=LLAMA3).converted().save(
        str(converted / "tokenizer.json"))
    failed |= report("llama3 (tokenizer.json)", texts, differences(program, converted, texts))
    expected = [[BOS] + e.ids for e in Tokenizer.from_file(str(converted / "tokenizer.json")).encode_batch(texts)]
    got = [row["ids"] for row in run(program, ranks, ({"text": t} for t in texts))]
    failed |= report("llama3 (ranks)", texts, [x for x in zip(texts, got, expected) if x[1] != x[2]])
    sys.exit(failed)


if __name__ == "__main__":
    main()
