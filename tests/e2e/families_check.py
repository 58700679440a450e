#!/usr/bin/env python3
"""A folder saved by transformers, of each family, trained for ten steps through the service, and what
transformers makes of the result.

usage: families_check.py CLI LOGITS
  CLI: the program liger-cli, beside liger-coordinator, liger-worker and liger-trainer
  LOGITS: liger-folder-logits
"""
import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import saved_folder_check as saved
import torch
import transformers

STEPS = 10
# The case of each family that has most of its features.
FAMILIES = {"llama": "mqa_head_dim_bias_v5", "mistral": "mistral_window_v5", "mixtral": "mixtral_router_v5",
            "gemma": "gemma_mqa_gelu_hub", "gemma2": "gemma2_v5", "qwen2": "qwen2_window_yarn_v5",
            "qwen3": "qwen3_bias_window_hub", "phi3": "phi3_longrope_hub"}


class Service:
    """A coordinator and a worker, as `liger-cli up` starts them."""

    def __init__(self, work):
        self.log = open(work / "up.log", "w+")
        any_port = "127.0.0.1:0"
        self.process = subprocess.Popen(
            [CLI, "up", "--data-dir", work / "data", "--listen", any_port, "--worker-listen", any_port,
             "--metrics-listen", any_port, "--worker-metrics-listen", any_port, "--model-root", work / "models",
             "--dataset-root", work / "datasets"], stdout=self.log, stderr=subprocess.STDOUT)
        self.address = self.wait_for_address()

    def wait_for_address(self):
        for _ in range(600):
            text = pathlib.Path(self.log.name).read_text()
            if "Ctrl-C" in text:
                return text.split("api:")[1].split()[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise AssertionError("liger-cli up does not serve:\n" + pathlib.Path(self.log.name).read_text())

    def cli(self, *arguments):
        run = subprocess.run([CLI, "--address", self.address, *map(str, arguments)], capture_output=True, text=True,
                             timeout=300)
        if run.returncode != 0:
            raise AssertionError(f"liger-cli {arguments} ended with {run.returncode}:\n{run.stdout}{run.stderr}")
        return run.stdout

    def stop(self):
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


class Families(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="liger-families-")))
        (cls.work / "datasets").mkdir()
        for family, case in FAMILIES.items():
            source = cls.work / "models" / family
            shutil.copytree(saved.GOLDEN / "models/tiny" / case, source,
                            ignore=shutil.ignore_patterns("expected.*", "trainer.json"))
            shutil.copy(saved.GOLDEN / "text/tokenizers/smollm2/tokenizer.json", source)
        rng = random.Random(3)
        cls.rows = saved.make_rows(rng, 97, 24)  # the tiny models' vocabulary
        for name, rows in (("train", saved.make_rows(rng, 97, 40)), ("eval", cls.rows)):
            (cls.work / f"datasets/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        cls.service = Service(cls.work)
        cls.addClassCleanup(cls.service.stop)

    def train(self, family):
        """Ten SFT steps in fp32; the folder and the job's evaluations."""
        datasets = self.work / "datasets"
        self.service.cli(
            "submit", "--model", self.work / "models" / family, "--dataset", datasets / "train.jsonl", "--trainer",
            "sft", "--device", "cpu", "--name", f"job-{family}", "--wait", "-o", "json", "--set",
            f"dataset.eval_uri={datasets / 'eval.jsonl'}", "--set", f"training.max_steps={STEPS}", "--set",
            "training.precision=FP32", "--set", "training.learning_rate=1e-2", "--set",
            "training.per_device_train_batch_size=4", "--set", "training.max_length=64")
        status = json.loads(self.service.cli("get", f"job-{family}", "-o", "json"))["status"]
        self.assertEqual(status["state"], "SUCCEEDED")
        self.assertEqual(int(status["progress"]["step"]), STEPS)
        losses = [e["values"]["eval_loss"] for e in status["evaluations"] if "eval_loss" in e["values"]]
        return pathlib.Path(status["output_uri"].removeprefix("file://")), losses

    def check_family(self, family):
        folder, losses = self.train(family)
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **saved.eager(family))
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            self.assertFalse(info.get(problem), problem)
        self.assertEqual(model.config.model_type, family)
        self.assertGreater(abs(losses[-1] - losses[0]), 1e-4, "ten steps must matter")
        theirs = saved.mean_loss(model.eval(), self.rows)
        if family == "mixtral":  # with the load-balancing loss, which mean_loss does not have
            self.assertGreater(losses[-1], theirs)
        else:
            self.assertLess(abs(losses[-1] - theirs), 1e-5 * theirs, f"ours {losses[-1]}, transformers' {theirs}")
        error = saved.logits_error(LOGITS, folder, model, self.rows, self.work)
        self.assertLess(error, 1e-5, "relative L2 of the logits")


def add_test(family):
    setattr(Families, f"test_{family}", lambda self: self.check_family(family))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    CLI, LOGITS = sys.argv[1:]
    for name in FAMILIES:
        add_test(name)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    unittest.main(argv=sys.argv[:1])
