#!/usr/bin/env python3
"""The folder that a job saves, loaded by transformers: the same logits, tokenizer and chat template.

usage: saved_folder_check.py TRAINER LOGITS
  TRAINER: the program liger-trainer. LOGITS: liger-folder-logits. SmolLM2's tokenizer comes from the folder that tools/fetch_smollm2
  makes, or LIGER_SMOLLM2_DIR.

Other tests compare with fixtures and need no Python. This one asks whether transformers itself takes
what we write, so it runs transformers, and fails where that is missing.
"""
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
IGNORED = -100
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Of a city",
                                           "parameters": {"type": "object", "properties": {}}}}]
CONVERSATIONS = [
    [{"role": "user", "content": "Hello there"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "\u4f60\u597d <|im_end|>"},
     {"role": "assistant", "content": "  Hi\n"}, {"role": "user", "content": "caf\u00e9?"}],
]


def dump(path, value):
    path.write_text(json.dumps(value))


def make_source(folder, model, smollm2):
    """A golden model's shape and weights, with SmolLM2's tokenizer and a second chat template."""
    shutil.copytree(GOLDEN / "models/tiny" / model, folder, ignore=shutil.ignore_patterns("expected.*"))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(smollm2 / name, folder)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates/tool_use.jinja").write_text(
        "{{ tools | tojson }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")


def make_rows(rng, vocab_size, n):
    """Tokenised rows; some start with tokens that are not trained on."""
    rows = []
    for _ in range(n):
        ids = [rng.randrange(vocab_size) for _ in range(rng.randrange(4, 40))]
        masked = rng.randrange(len(ids) - 2)
        rows.append({"input_ids": ids, "labels": [IGNORED] * masked + ids[masked:]})
    return rows


def mean_loss(model, rows):
    """Mean negative log-likelihood over all targets of all rows, summed in double."""
    total, targets = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logits = model(torch.tensor([row["input_ids"]])).logits[0, :-1].double()
            labels = torch.tensor(row["labels"][1:])
            total += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum").item()
            targets += int((labels != IGNORED).sum())
    return total / targets


def eager(model_type):
    """How transformers is to compute what its default attention and experts do not."""
    return {"gemma2": {"attn_implementation": "eager"}, "mixtral": {"experts_implementation": "eager"}}.get(
        model_type, {})


def logits_error(program, folder, model, rows, work):
    """Relative L2 distance of the logits that our model of the folder gives from those of `model`,
    transformers' of the same in fp32, over all tokens of all rows."""
    path = work / "logits-rows.jsonl"
    path.write_text("".join(json.dumps({"input_ids": row["input_ids"]}) + "\n" for row in rows))
    run = subprocess.run([program, folder, path], capture_output=True, timeout=240)
    if run.returncode != 0:
        raise AssertionError(f"{program} ended with {run.returncode}:\n{run.stderr.decode()}")
    with torch.no_grad():
        theirs = torch.cat([model(torch.tensor([row["input_ids"]])).logits[0] for row in rows]).double()
    ours = torch.from_numpy(np.frombuffer(run.stdout, dtype=np.float32).copy()).view(theirs.shape).double()
    return ((ours - theirs).norm() / theirs.norm()).item()


class Job:
    """One run of the trainer on tokenised rows, alone, on the CPU."""

    def __init__(self, work, trainer, source, **training):
        rng = random.Random(7)
        vocab_size = json.loads((source / "config.json").read_text())["vocab_size"]
        self.out = work / "out"
        self.eval_rows = make_rows(rng, vocab_size, 24)
        for name, rows in (("train", make_rows(rng, vocab_size, 32)), ("eval", self.eval_rows)):
            (work / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        spec = work / "job.json"
        dump(spec, {"name": "saved-folder", "model": {"uri": str(source)}, "sft": {},
                    "dataset": {"uri": str(work / "train.jsonl"), "eval_uri": str(work / "eval.jsonl")},
                    "training": {"max_length": 64, "per_device_train_batch_size": 8, **training},
                    "resources": {"device_kind": "CPU"}, "output": {"uri": str(self.out)}})
        run = subprocess.run([trainer, "--spec", spec], capture_output=True, text=True, timeout=240)
        if run.returncode != 0:
            raise AssertionError(f"liger-trainer ended with {run.returncode}:\n{run.stdout}{run.stderr}")
        lines = map(json.loads, (self.out / "metrics.jsonl").read_text().splitlines())
        self.eval_losses = [line["eval_loss"] for line in lines if "eval_loss" in line]


class SavedFolder(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="liger-saved-")))

    def train(self, model, precision):
        self.source = self.work / "source"
        make_source(self.source, model, SMOLLM2)
        return Job(self.work, TRAINER, self.source, precision=precision, learning_rate=1e-2, max_steps=4)

    def load(self, folder, dtype="auto"):
        model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            self.assertFalse(info.get(problem), problem)
        return model.eval()

    def check_model(self, folder, dtype):
        """Every parameter is there, in the dtype that the config tells, tied where the source's is."""
        source, saved = self.load(self.source), self.load(folder)
        self.assertEqual({p.dtype for p in saved.parameters()}, {dtype})
        self.assertEqual(saved.config.dtype, dtype)
        before, after = source.config.to_dict(), saved.config.to_dict()
        for changes in ("dtype", "_name_or_path", "transformers_version"):
            before.pop(changes, None), after.pop(changes, None)
        self.assertEqual(before, after)
        self.assertEqual(source.generation_config.to_dict(), saved.generation_config.to_dict())
        tied = saved.lm_head.weight is saved.model.embed_tokens.weight
        self.assertEqual(tied, source.config.tie_word_embeddings)
        with safe_open(folder / "model.safetensors", "pt") as file:
            self.assertEqual(set(file.keys()), {name for name, _ in saved.named_parameters()})
            self.assertTrue(all(file.get_tensor(name).dtype == dtype for name in file.keys()))
        self.assertFalse(torch.equal(source.model.embed_tokens.weight, saved.model.embed_tokens.weight.float()))

    def check_loss(self, ours, folder, rows):
        model = self.load(folder, dtype=torch.float32)
        theirs = mean_loss(model, rows)
        self.assertLess(abs(ours - theirs), 1e-5 * theirs, f"ours {ours}, transformers' {theirs}")
        self.assertLess(logits_error(LOGITS, folder, model, rows, self.work), 1e-5, "relative L2 of the logits")

    def check_fp32(self, model):
        job = self.train(model, "FP32")
        self.assertGreater(abs(job.eval_losses[-1] - job.eval_losses[0]), 1e-4)  # so it is not the source
        self.check_model(job.out, torch.float32)
        self.check_loss(job.eval_losses[-1], job.out, job.eval_rows)

    def test_tied(self):
        self.check_fp32("gqa_tied_v5")

    def test_untied(self):
        self.check_fp32("mha_untied_hub")

    def test_rope_scaling(self):
        self.check_fp32("llama3_rope_tied_hub")

    def test_biases(self):
        self.check_fp32("mqa_head_dim_bias_v5")

    def test_bf16(self):
        """Saved in bf16. A second job evaluates that folder in fp32 before its first step."""
        job = self.train("mha_untied_hub", "BF16_STOCHASTIC")
        self.check_model(job.out, torch.bfloat16)
        again = self.work / "again"
        again.mkdir()
        second = Job(again, TRAINER, job.out, precision="FP32", max_steps=1)
        self.check_loss(second.eval_losses[0], job.out, second.eval_rows)

    def test_tokenizer_and_chat_templates(self):
        job = self.train("gqa_tied_v5", "FP32")
        source, saved = (AutoTokenizer.from_pretrained(f) for f in (self.source, job.out))
        self.assertEqual(type(source), type(saved))
        self.assertEqual(source.special_tokens_map, saved.special_tokens_map)
        lines = (GOLDEN / "text/fuzz_strings.jsonl").read_text().split("\n")
        texts = [json.loads(line) for line in lines if line]
        self.assertEqual(source(texts).input_ids, saved(texts).input_ids)
        cases = [{"messages": m, "add_generation_prompt": p, **t}
                 for m in CONVERSATIONS for p in (False, True) for t in ({}, {"tools": TOOLS})]
        rendered = [self.render(saved, **case) for case in cases]
        self.assertEqual(rendered, [self.render(source, **case) for case in cases])
        self.assertEqual(rendered, [row["rendered"] for row in self.tokenize(job.out, cases)])

    def test_bos_and_eos_of_the_config_are_not_applied(self):
        """Beside a tokenizer.json transformers ignores add_bos_token and add_eos_token, and so do we."""
        for add in (False, True):
            folder = self.work / str(add)
            folder.mkdir()
            shutil.copy(GOLDEN / "text/tokenizers/llama3/tokenizer.json", folder)
            dump(folder / "tokenizer_config.json",
                 {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>",
                  "eos_token": "<|end_of_text|>", "add_bos_token": add, "add_eos_token": add})
            theirs = AutoTokenizer.from_pretrained(folder)("Hello").input_ids
            self.assertEqual(self.tokenize(folder, [{"text": "Hello"}]), [{"ids": theirs}])

    @staticmethod
    def render(tokenizer, messages, **more):
        return tokenizer.apply_chat_template(messages, tokenize=False, **more)

    @staticmethod
    def tokenize(folder, rows):
        """What `liger-trainer tokenize` makes of the rows."""
        run = subprocess.run([TRAINER, "tokenize", "--model", folder], check=True, capture_output=True,
                             text=True, input="".join(json.dumps(row) + "\n" for row in rows))
        return [json.loads(line) for line in run.stdout.splitlines()]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    TRAINER, LOGITS = sys.argv[1:]
    SMOLLM2 = pathlib.Path(os.environ.get("LIGER_SMOLLM2_DIR", ROOT / ".cache/models-v2/smollm2-135m"))
    if not (SMOLLM2 / "tokenizer.json").exists():
        sys.exit(f"no SmolLM2 in {SMOLLM2}: run tools/fetch_smollm2, or set LIGER_SMOLLM2_DIR")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    unittest.main(argv=sys.argv[:1])
