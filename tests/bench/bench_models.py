"""Model folders of the step benchmarks: config, a byte-level tokenizer, random weights in bf16.

The weights are written once, so that every program starts from the same ones.
"""

import json
import pathlib

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "initializer_range": 0.02, "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
# Facts of the published configs; "tiny" is for a smoke test.
CONFIGS = {
    "llama3.2-1b": {
        **LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": True,
        "max_position_embeddings": 131072, "rope_theta": 500000.0,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                         "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    },
    "llama3-8b": {
        **LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False,
        "max_position_embeddings": 8192, "rope_theta": 500000.0,
    },
    "tiny": {
        **LLAMA, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 50000, "tie_word_embeddings": True, "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
    },
}  # fmt: skip
SHARD_BYTES = 4 << 30


def tokenizer_json():
    """Every byte is a token; the benchmarks' rows are tokenised already, but a trainer reads a tokenizer."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) if byte in printable else None for byte in range(256)]
    others = iter(range(256, 512))
    vocabulary = {letter or chr(next(others)): 3 + i for i, letter in enumerate(letters)}
    end = {"id": 2, "content": "</s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
           "special": True}  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {**vocabulary, "</s>": 2}, "merges": []},
    }  # fmt: skip


def write_folder(root, name, device):
    """The folder of a model; made when it is not there yet."""
    folder = pathlib.Path(root) / name
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIGS[name], "torch_dtype": "bfloat16"}
    write_weights(folder, config, device)
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "</s>"}
    for file, value in (("tokenizer.json", tokenizer_json()), ("tokenizer_config.json", tokenizer),
                        ("config.json", config)):  # fmt: skip
        (folder / file).write_text(json.dumps(value), encoding="utf-8")
    return folder


def write_weights(folder, config, device):
    """N(0, initializer_range), norms 1, as both programs initialise."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    facts = {name: value for name, value in config.items() if name != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **facts))
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        shapes.pop("lm_head.weight", None)
    generator = torch.Generator(device).manual_seed(42)
    places, shard, held = {}, {}, 0

    def flush():
        nonlocal shard, held
        file = f"model-{len(set(places.values())) + 1:05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, file))
        shard, held = {}, 0

    for name, shape in shapes.items():
        tensor = torch.ones(shape, dtype=torch.bfloat16)
        if len(shape) > 1:
            tensor = torch.empty(shape, dtype=torch.bfloat16, device=device)
            tensor = tensor.normal_(0, config["initializer_range"], generator=generator).cpu()
        shard[name] = tensor
        held += tensor.nbytes
        if held >= SHARD_BYTES:
            flush()
    if shard:
        flush()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
