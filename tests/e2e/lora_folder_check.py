#!/usr/bin/env python3
"""The adapter folder that a LoRA job saves, loaded by PEFT: the losses that the job told.

usage: lora_folder_check.py TRAINER
  TRAINER: the program liger-trainer. SmolLM2's tokenizer as in saved_folder_check.py.

The other way, folders that PEFT wrote, is tests/unit/models/lora_test.cpp. As saved_folder_check.py this one asks
the library itself, so it runs it, and fails where that is missing.
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

import torch
import transformers
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file
from saved_folder_check import ROOT, dump, make_rows, make_source, mean_loss
from transformers import AutoModelForCausalLM, AutoTokenizer


class LoraFolder(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="liger-lora-")))
        self.source = self.work / "source"

    def run_job(self, name, lora):
        """Trains on tokenised rows on the CPU in fp32; the losses before and after."""
        rng = random.Random(7)
        vocab_size = json.loads((self.source / "config.json").read_text())["vocab_size"]
        self.eval_rows = make_rows(rng, vocab_size, 24)
        for file, rows in (("train", make_rows(rng, vocab_size, 32)), ("eval", self.eval_rows)):
            (self.work / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        out = self.work / name
        spec = self.work / f"{name}.json"
        dump(spec, {"name": name, "model": {"uri": str(self.source)}, "sft": {}, "lora": lora,
                    "dataset": {"uri": str(self.work / "train.jsonl"), "eval_uri": str(self.work / "eval.jsonl")},
                    "training": {"max_length": 64, "per_device_train_batch_size": 8, "precision": "FP32",
                                 "learning_rate": 1e-2, "max_steps": 4, "save_steps": 4},
                    "resources": {"device_kind": "CPU"}, "output": {"uri": str(out)}})
        run = subprocess.run([TRAINER, "--spec", spec], capture_output=True, text=True, timeout=240)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
        losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
        return out, losses[0], losses[-1]

    def base(self):
        return AutoModelForCausalLM.from_pretrained(self.source, dtype=torch.float32).eval()

    def check_same(self, model, loss):
        theirs = mean_loss(model.eval(), self.eval_rows)
        self.assertLess(abs(loss - theirs), 1e-5 * theirs, f"ours {loss}, PEFT's {theirs}")

    def check(self, base, **lora):
        make_source(self.source, base, SMOLLM2)
        folder, start, after = self.run_job("adapter", lora)
        self.assertGreater(abs(after - start), 1e-3)  # so it is not the base
        model = PeftModel.from_pretrained(self.base(), folder)
        self.check_same(model, after)
        # The checkpoint of the last step is the same adapter.
        checkpoint = self.work / "adapter.checkpoints" / "checkpoint-4"
        self.check_same(PeftModel.from_pretrained(self.base(), checkpoint), after)
        # Nothing of it was left at its start, and nothing is there that PEFT does not know.
        with torch.no_grad():
            again = self.work / "again"
            model.save_pretrained(again, save_embedding_layers=False)
        ours, theirs = (load_file(f / "adapter_model.safetensors") for f in (folder, again))
        if self.base().config.tie_word_embeddings:
            ours.pop("base_model.model.lm_head.weight", None)  # its embedding once more, which PEFT leaves out or not
            theirs.pop("base_model.model.lm_head.weight", None)
        self.assertEqual(set(ours), set(theirs))
        for name, tensor in ours.items():
            self.assertTrue(torch.equal(tensor, theirs[name]), name)
        # By base_model_name_or_path; apart from the tokenizer, to whose length PEFT would resize this small model.
        bare = self.work / "bare"
        bare.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(folder / name, bare)
        self.check_same(AutoPeftModelForCausalLM.from_pretrained(bare, dtype=torch.float32), after)
        tokenizers = [AutoTokenizer.from_pretrained(f) for f in (self.source, folder)]
        self.assertEqual(*[t("Hello there").input_ids for t in tokenizers])
        # On from what PEFT saved, and merged.
        merged, before, end = self.run_job("merged", {"adapter_uri": str(again), "merge": True})
        self.assertLess(abs(before - after), 1e-6 * after)
        self.check_same(AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32), end)

    def test_plain(self):
        self.check("gqa_tied_v5", r=4)

    def test_rslora(self):
        self.check("mqa_head_dim_bias_v5", r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "down_proj"])

    def test_dora(self):
        self.check("mqa_head_dim_bias_v5", r=4, use_dora=True)

    def test_modules_to_save(self):
        self.check("mha_untied_hub", r=2, target_modules=["v_proj"], modules_to_save=["embed_tokens", "lm_head", "norm"])

    def test_tied_head(self):
        self.check("gqa_tied_v5", r=2, target_modules=["v_proj"], modules_to_save=["embed_tokens"])

    def test_phi3(self):
        self.check("phi3_partial_window_v5", r=4)

    def test_gemma2(self):
        self.check("gemma2_v5", r=4, use_dora=True)

    def test_mixtral(self):
        self.check("mixtral_v5", r=4)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    TRAINER = sys.argv[1]
    SMOLLM2 = pathlib.Path(os.environ.get("LIGER_SMOLLM2_DIR", ROOT / ".cache/models-v2/smollm2-135m"))
    if not (SMOLLM2 / "tokenizer.json").exists():
        sys.exit(f"no SmolLM2 in {SMOLLM2}: run tools/fetch_smollm2, or set LIGER_SMOLLM2_DIR")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    unittest.main(argv=sys.argv[:1])
