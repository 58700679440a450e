#!/usr/bin/env python3
"""Published tokenizers, out of pinned PyPI packages, on 5,000 fuzzed strings and tests/data: Mistral's
SentencePiece models of four generations against `sentencepiece`; Llama 3's ranks, as the package has
them and as transformers converts them to a tokenizer.json, against PyPI's `tokenizers`.

usage: real_tokenizers_test.py LIGER_TRAINER REPO_ROOT

The packages are kept in REPO_ROOT/.cache/tokenizers.
"""
import pathlib
import shutil
import subprocess
import sys
import zipfile

from tokenizer_fuzz_test import converted_ranks, report, text_fuzz

PACKAGES = ("llama-models==0.3.0", "mistral-common==1.8.5")
MISTRAL = {"v1": "tokenizer.model.v1", "v2": "mistral_instruct_tokenizer_240216.model.v2",
           "v3": "mistral_instruct_tokenizer_240323.model.v3", "v7": "mistral_instruct_tokenizer_241114.model.v7"}


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


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    folder = root / ".cache/tokenizers"
    fetch(folder)
    converted = folder / "llama3_json"
    converted.mkdir(exist_ok=True)
    converted_ranks(folder / "llama3/tokenizer.model").save(str(converted / "tokenizer.json"))
    texts = text_fuzz.strings(5000)
    texts += [line for name in ("wiki_demo.txt", "c4_demo.jsonl")
              for line in (root / "tests/data" / name).read_text(encoding="utf-8").split("\n")]
    names = [f"mistral_{version}" for version in MISTRAL] + ["llama3", "llama3_json"]
    failed = [name for name in names if report(program, folder / name, texts)]
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
