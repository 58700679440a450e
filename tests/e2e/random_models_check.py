#!/usr/bin/env python3
"""Random tiny models of every family, saved by transformers: the trainer's logits and gradients are transformers' within 1e-5.

usage: random_models_check.py LIGER_FOLDER_LOGITS [SEED [MODELS]]

Configurations that the fixtures do not have: head sizes apart from hidden_size / heads, one key-value head, rope of every
type with odd factors, windows shorter than the rows, layer_types, softcaps, odd vocabularies, biases, tied heads, shards,
fp16 and bf16 sources, and config.json as hub repositories have it, too.
"""
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM

TOLERANCE = 1e-5
FAMILIES = ("gemma", "gemma2", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3")


def random_rope(rng, family, rotary_dim, longest):
    kinds = ("default", "longrope") if family == "phi3" else (
        "default", "linear", "dynamic", "yarn", "llama3", "longrope")
    rope = {"rope_type": rng.choice(kinds), "rope_theta": rng.choice([10000.0, 500000.0, 1234.5])}
    some = {"linear": lambda: {"factor": rng.choice([1.5, 2.0, 3.7])}, "dynamic": lambda: {"factor": rng.choice([1.5, 3.7])},
            "yarn": lambda: {"factor": rng.choice([2.0, 3.3]), "original_max_position_embeddings": longest // 2,
                             **rng.choice([{}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"attention_factor": 1.21},
                                           {"mscale": 0.9, "mscale_all_dim": 0.6}, {"truncate": False}])},
            "llama3": lambda: {"factor": rng.choice([8.0, 2.5]), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                               "original_max_position_embeddings": longest // 4},
            "longrope": lambda: {"short_factor": [rng.uniform(1, 1.5) for _ in range(rotary_dim // 2)],
                                 "long_factor": [rng.uniform(1, 6) for _ in range(rotary_dim // 2)],
                                 "original_max_position_embeddings": longest // rng.choice([2, 4]),
                                 **rng.choice([{}, {"factor": 4.0}, {"attention_factor": 1.3}])}}
    return rope | some.get(rope["rope_type"], dict)()


def random_config(rng, family):
    kv_heads, head_dim, layers = rng.choice([1, 2]), rng.choice([8, 12, 16, 20, 24]), rng.choice([1, 2, 3])
    heads = kv_heads * rng.choice([1, 2, 3])
    own_head_dim = family not in ("qwen2", "phi3")
    part = rng.choice([0.5, 1.0]) if family == "phi3" and head_dim % 4 == 0 else 1.0
    longest = rng.choice([32, 48, 64, 512])
    rope = random_rope(rng, family, int(head_dim * part), longest)
    config = {"model_type": family, "vocab_size": rng.choice([61, 97, 128, 131]), "num_hidden_layers": layers,
              "hidden_size": heads * (rng.choice([head_dim, 8, 10, 14]) if own_head_dim else head_dim),
              "intermediate_size": rng.choice([20, 56] if family == "mixtral" else [20, 33, 48]),
              "num_attention_heads": heads, "num_key_value_heads": kv_heads, "max_position_embeddings": longest,
              "tie_word_embeddings": rng.random() < 0.5, "rms_norm_eps": rng.choice([1e-5, 1e-6, 3e-4]),
              "initializer_range": rng.choice([0.02, 0.2]), "pad_token_id": rng.choice([None, 0, 5]),
              "bos_token_id": 1, "eos_token_id": rng.choice([2, [2, 3]]), "rope_parameters": rope}
    if own_head_dim:
        config["head_dim"] = head_dim
    if family == "phi3":
        rope["partial_rotary_factor"] = part
        if "original_max_position_embeddings" in rope:
            config["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    if not family.startswith("gemma"):
        config["hidden_act"] = rng.choice(["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "swish"])
    if family in ("mistral", "mixtral", "phi3"):
        config["sliding_window"] = rng.choice([None, 3, 8, 16])
    if family == "llama":
        config |= {"attention_bias": rng.random() < 0.3, "mlp_bias": rng.random() < 0.3}
    if family == "gemma2":
        config |= {"sliding_window": rng.choice([3, 8, 16]), "query_pre_attn_scalar": rng.choice([8, 13, 256]),
                   "attn_logit_softcapping": rng.choice([None, 5.0, 50.0]),
                   "final_logit_softcapping": rng.choice([None, 2.0, 30.0])}
    if family in ("qwen2", "qwen3"):
        config |= {"use_sliding_window": rng.random() < 0.6, "sliding_window": rng.choice([3, 8, 16]),
                   "max_window_layers": rng.randrange(layers + 1)}
    if family == "qwen3":
        config["attention_bias"] = rng.random() < 0.4
    if (family == "gemma2" or config.get("use_sliding_window")) and rng.random() < 0.4:
        config["layer_types"] = [rng.choice(["full_attention", "sliding_attention"]) for _ in range(layers)]
    if family == "mixtral":
        config["hidden_size"] = (config["hidden_size"] + 3) // 4 * 4  # grouped products take 16 bytes at a time
        config["num_local_experts"] = rng.choice([2, 3, 5])
        config["num_experts_per_tok"] = rng.randrange(1, config["num_local_experts"] + 1)
    return config


def as_hub_has_it(rng, config, keeps_layer_types):
    """config.json of before transformers 5."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    part = rope.pop("partial_rotary_factor", 1.0)
    if part != 1.0:
        config["partial_rotary_factor"] = part
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {rng.choice(["type", "rope_type"]): kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    if not keeps_layer_types:
        config.pop("layer_types", None)


def save(rng, folder, config):
    """A random model as a folder."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases, which start as ones and zeros
                parameter.add_(torch.randn_like(parameter) * 0.3)
    dtype = rng.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16])
    model.to(dtype).save_pretrained(folder, max_shard_size=rng.choice(["20KB", "10MB"]))
    if rng.random() < 0.5:
        path = folder / "config.json"
        written = json.loads(path.read_text())
        as_hub_has_it(rng, written, "layer_types" in config)
        path.write_text(json.dumps(written))


def relative_error(got, expected):
    """||got - expected|| / ||expected||, over arrays by name."""
    assert got.keys() == expected.keys(), got.keys() ^ expected.keys()
    difference = sum(np.square(got[name].astype(np.float64) - expected[name]).sum() for name in expected)
    return float(np.sqrt(difference / sum(np.square(array.astype(np.float64)).sum() for array in expected.values())))


def by_transformers(folder, rows):
    """The logits of each row, and the gradients of all next tokens' negative log-likelihoods under the names that a
    saved folder has for the weights."""
    logits, gradients = {}, {}
    for i, row in enumerate(rows):
        # A fresh one for each row: dynamic rope remembers longer ones.
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        out = model(torch.tensor([row])).logits[0]
        torch.nn.functional.cross_entropy(out[:-1], torch.tensor(row[1:], dtype=torch.long), reduction="sum").backward()
        logits[i] = out.detach().numpy()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                gradients[name] = gradients.get(name, 0) + parameter.grad
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(gradients.get(name, torch.zeros_like(parameter)))
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        return logits, load_file(pathlib.Path(saved) / "model.safetensors")


def errors(program, folder, rows):
    """Of the logits of each row, the largest, and of all gradients together."""
    path, gradients = folder / "rows.jsonl", folder / "gradients.safetensors"
    path.write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    out = subprocess.run([program, folder, path, gradients], stdout=subprocess.PIPE, check=True).stdout
    logits, worst = np.frombuffer(out, np.float32), 0.0
    expected_logits, expected_gradients = by_transformers(folder, rows)
    for expected in expected_logits.values():
        got, logits = logits[:expected.size].reshape(expected.shape), logits[expected.size:]
        worst = max(worst, relative_error({"": got}, {"": expected}))
    assert not logits.size, "more logits than tokens"
    return worst, relative_error(load_file(gradients), expected_gradients)


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    rng = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 20261127)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(rng.randrange(1 << 30))
    by_family = {family: [] for family in FAMILIES}
    for i in range(int(sys.argv[3]) if len(sys.argv) > 3 else 64):
        family = FAMILIES[i % len(FAMILIES)]
        config = random_config(rng, family)
        rows = [[rng.randrange(config["vocab_size"]) for _ in range(longest)]
                for longest in (rng.choice([1, 5, 17, 40, 70]), rng.choice([5, 17, 40, 70]))]
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            save(rng, folder, config)
            found = errors(program, folder, rows)
            assert max(found) < TOLERANCE, (found, [len(row) for row in rows], (folder / "config.json").read_text())
        by_family[family].append(found)
    for family, found in by_family.items():
        logits, gradients = (max(column, default=0) for column in zip(*found)) if found else (0, 0)
        print(f"{family}: {len(found)} models, largest error of logits {logits:.1e}, of gradients {gradients:.1e}")


if __name__ == "__main__":
    main()
