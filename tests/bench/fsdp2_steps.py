"""One rank of PyTorch's FSDP2 with transformers and liger-kernel: what parallel_bench.py compares with.

usage: fsdp2_steps.py JSON        (RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT in the environment)

JSON: config (a folder with config.json), rows (a file of tokenised rows), steps, batch (rows a rank), learning_rate,
gradient_checkpointing, cpu, metrics (the file that rank 0 writes: a line of JSON a step).

Weights are drawn. Each decoder layer is a group, the rest (embedding, last norm, head) the root's; parameters, their gradients and
the sums of these in bf16, as the trainer's BF16_STOCHASTIC has them; the layers are patched by liger-kernel, the loss is its
fused linear cross entropy; fused AdamW, clipping at 1.0. On a CPU (a smoke test, Gloo, fp32) nothing is patched: Liger's
layers are Triton's.
"""

import json
import os
import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from step_runs import read_rows


def build(job, device, dtype):
    from transformers import AutoConfig, AutoModelForCausalLM

    if device.type == "cuda":
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama()
    config = AutoConfig.from_pretrained(job["config"])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    if job["gradient_checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype)
    for layer in model.model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device=device)
    torch.manual_seed(1 + dist.get_rank())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            local = parameter.to_local()
            local.fill_(1) if "norm" in name else local.normal_(0, config.initializer_range)
    # What to_empty left undefined: the rotary embedding's frequencies.
    with device:
        model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    return model.train()


def main():
    job = json.loads(sys.argv[1])
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if not job["cpu"]:
        torch.cuda.set_device(rank)
    dist.init_process_group("gloo" if job["cpu"] else "nccl")
    device = torch.device("cpu") if job["cpu"] else torch.device("cuda", rank)
    model = build(job, device, torch.float32 if job["cpu"] else torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"], weight_decay=0.0, fused=True)
    rows, batch = read_rows(job["rows"]), job["batch"]
    lines = []
    for step in range(job["steps"]):
        begin = (step * world + rank) * batch
        ids = torch.tensor([row["input_ids"] for row in rows[begin : begin + batch]], device=device)
        start = time.perf_counter()
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().float()
        dist.all_reduce(total)
        value = total.item() / world  # waits for the device
        line = {"loss": value, "tokens_per_second": ids.numel() * world / (time.perf_counter() - start)}
        if not job["cpu"]:
            line["memory/allocated"] = torch.cuda.max_memory_allocated() / 2**30
        lines.append(line)
    if rank == 0:
        with open(job["metrics"], "w", encoding="utf-8") as out:
            out.writelines(json.dumps(line) + "\n" for line in lines)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
