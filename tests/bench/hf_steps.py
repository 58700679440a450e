"""The transformers side of the step benchmarks: one process, one objective, one way of using kernels.

usage: hf_steps.py JSON

JSON: model, rows (a file of tokenised rows), steps, batch, objective (sft, orpo, dpo, kto), variant, dtype,
learning_rate, gradient_checkpointing, device.

Variants:
- plain: transformers as it is, attention by SDPA;
- liger: the model patched by liger-kernel, SFT's loss its fused linear cross entropy, the preference losses
  Liger's chunked ones, as TRL used them before 1.16;
- trl: the model patched by liger-kernel, the losses by TRL 1.16's chunked log-probabilities.

On a CPU (a smoke test) the model is not patched: Liger's layers are Triton's.
Prints `ready` once everything is imported and waits for a line; then `step N/... loss L` after each step. The recipe is
Trainer's: fused AdamW in the parameters' dtype, clipping at 1.0, linear decay, batches padded to their longest row.
"""

import copy
import json
import sys

import torch
import torch.nn.functional as F

import bench_env
from step_runs import IGNORED, read_rows

BETA = 0.1


# ---- Batches --------------------------------------------------------------------------


def sequences(row, objective):
    """[(ids, labels)] of a row: one, or chosen and rejected."""
    if objective in ("sft", "kto"):
        return [(row["input_ids"], row["labels"])]
    masked = [IGNORED] * len(row["prompt_ids"])
    return [(row["prompt_ids"] + row[name], masked + row[name]) for name in ("chosen_ids", "rejected_ids")]


def padded(pairs, device):
    """(ids, mask, labels) [R, L] of a list of (ids, labels), padded on the right."""
    longest = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    mask = torch.zeros(len(pairs), longest, dtype=torch.long)
    labels = torch.full((len(pairs), longest), IGNORED)
    for i, (tokens, targets) in enumerate(pairs):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        mask[i, : len(tokens)] = 1
        labels[i, : len(tokens)] = torch.tensor(targets)
    return {"ids": ids.to(device), "mask": mask.to(device), "labels": labels.to(device)}


def collate(rows, objective, device):
    """All first sequences, then all second ones; for KTO also the labels and the mismatched answers."""
    parts = [sequences(row, objective) for row in rows]
    batch = padded([part[i] for i in range(len(parts[0])) for part in parts], device)
    if objective == "kto":
        batch["desirable"] = torch.tensor([row["label"] for row in rows], device=device)
        batch["mismatched"] = padded(mismatched(rows), device)
    return batch


def mismatched(rows):
    """Each row's prompt with the answer of the row before."""
    result = []
    for i, row in enumerate(rows):
        answer = [token for token in rows[i - 1]["labels"] if token != IGNORED]
        prompt = row["input_ids"][: sum(label == IGNORED for label in row["labels"])]
        result.append((prompt + answer, [IGNORED] * len(prompt) + answer))
    return result


# ---- Losses -----------------------------------------------------------------------------


def hidden_states(model, batch):
    """[R, L - 1, D] of the positions that predict, and their targets [R, L - 1]."""
    out = model.model(input_ids=batch["ids"], attention_mask=batch["mask"], use_cache=False)
    return out.last_hidden_state[:, :-1], batch["labels"][:, 1:]


def plain_logprob(hidden, weight, target):
    """Through all logits, as transformers and TRL do without fused losses."""
    return -F.cross_entropy(F.linear(hidden, weight).float(), target, reduction="none")


def chunked_logprob(function):
    def logprob(hidden, weight, target):
        return function.apply(hidden, weight, None, target, 1.0, 8192, None, 1.0, ())[0]

    return logprob


def answer_logps(model, batch, logprob, labels=None):
    """Sum and count over each row's targets of its log-probabilities."""
    hidden, target = hidden_states(model, batch)
    target = target if labels is None else labels
    chosen = target != IGNORED
    logps = torch.zeros(target.shape, device=hidden.device)
    # Only positions with a target reach the head.
    logps = logps.masked_scatter(chosen, logprob(hidden[chosen], model.lm_head.weight, target[chosen]))
    return logps.sum(1), chosen.sum(1), logps


def orpo(model, batch, logprob):
    """TRL's form: NLL over the whole chosen sequence, odds of mean log-probabilities."""
    labels = batch["labels"][:, 1:]
    half = len(labels) // 2
    every = torch.where(batch["mask"][:, 1:].bool(), batch["ids"][:, 1:], IGNORED)
    wanted = torch.cat((every[:half], labels[half:]))
    _, counts, logps = answer_logps(model, batch, logprob, wanted)
    nll = -logps[:half].sum() / counts[:half].sum()
    answers = labels != IGNORED
    chosen, rejected = ((logps * answers).sum(1) / answers.sum(1)).chunk(2)
    odds = (chosen - rejected) - (torch.log1p(-chosen.exp()) - torch.log1p(-rejected.exp()))
    return nll - BETA * F.logsigmoid(odds).mean()


def dpo(model, reference, batch, logprob):
    with torch.no_grad():
        base = answer_logps(reference, batch, logprob)[0]
    rewards = answer_logps(model, batch, logprob)[0] - base
    chosen, rejected = rewards.chunk(2)
    return -F.logsigmoid(BETA * (chosen - rejected)).mean()


def kl_estimate(model, reference, batch, logprob):
    with torch.no_grad():
        policy, base = (answer_logps(m, batch["mismatched"], logprob)[0] for m in (model, reference))
        return (policy - base).mean().clamp(min=0)


def kto(model, reference, batch, logprob):
    kl = kl_estimate(model, reference, batch, logprob)
    with torch.no_grad():
        base = answer_logps(reference, batch, logprob)[0]
    rewards = answer_logps(model, batch, logprob)[0] - base
    sign = torch.where(batch["desirable"], 1.0, -1.0)
    return (1 - torch.sigmoid(BETA * sign * (rewards - kl))).mean()


def liger_losses(objective, model, reference):
    """The same objectives by Liger's chunked losses; batch -> loss."""
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss, LigerFusedLinearKTOLoss, LigerFusedLinearORPOLoss

    def reference_hidden(batch):
        with torch.no_grad():
            return hidden_states(reference, batch)[0]

    if objective == "orpo":
        loss = LigerFusedLinearORPOLoss(beta=BETA)

        def run(batch):
            hidden, target = hidden_states(model, batch)
            every = torch.where(batch["mask"][:, 1:].bool(), batch["ids"][:, 1:], IGNORED)
            return loss(model.lm_head.weight, hidden, target, nll_target=every)[0]
    elif objective == "dpo":
        loss = LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=True)

        def run(batch):
            ref = reference_hidden(batch)
            hidden, target = hidden_states(model, batch)
            return loss(model.lm_head.weight, hidden, target, ref_input=ref, ref_weight=reference.lm_head.weight)[0]
    else:
        loss = LigerFusedLinearKTOLoss(beta=BETA, use_ref_model=True)
        from compare_libraries import liger_logprob

        def run(batch):
            kl = kl_estimate(model, reference, batch, liger_logprob)
            ref = reference_hidden(batch)
            hidden, target = hidden_states(model, batch)
            return loss(hidden, model.lm_head.weight, target, preference_labels=batch["desirable"], ref_input=ref,
                        ref_weight=reference.lm_head.weight, kl=kl)[0]  # fmt: skip

    return run


def sft(model, batch):
    targets = (batch["labels"][:, 1:] != IGNORED).sum()
    return model(input_ids=batch["ids"], attention_mask=batch["mask"], labels=batch["labels"],
                 num_items_in_batch=targets, use_cache=False).loss  # fmt: skip


def sft_by_logprob(model, batch, logprob):
    sums, counts, _ = answer_logps(model, batch, logprob)
    return -sums.sum() / counts.sum()


def make_loss(job, model, reference):
    objective, variant = job["objective"], job["variant"]
    if objective == "sft" and variant != "trl":
        return lambda batch: sft(model, batch)
    if variant == "liger":
        return liger_losses(objective, model, reference)
    logprob = plain_logprob if variant == "plain" else chunked_logprob(bench_env.trl_logprob())
    if objective == "sft":
        return lambda batch: sft_by_logprob(model, batch, logprob)
    if objective == "orpo":
        return lambda batch: orpo(model, batch, logprob)
    loss = {"dpo": dpo, "kto": kto}[objective]
    return lambda batch: loss(model, reference, batch, logprob)


# ---- Steps --------------------------------------------------------------------------------


def load(job):
    from transformers import AutoModelForCausalLM

    torch.manual_seed(42)
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"]))
    return model.to(job["device"])


def prepare(job):
    """(model, loss): patched and loaded."""
    if job["variant"] != "plain" and job["device"] == "cuda":  # Liger's layers are Triton's
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        # TRL's losses take the hidden states; only SFT's own loss runs through the patched forward.
        apply_liger_kernel_to_llama(fused_linear_cross_entropy=job["objective"] == "sft" and job["variant"] == "liger")
    model = load(job)
    reference = None
    if job["objective"] in ("dpo", "kto"):
        reference = copy.deepcopy(model).requires_grad_(False).eval()
    model.train()
    if job["gradient_checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model, make_loss(job, model, reference)


def report_memory(device):
    if device == "cuda":
        print(f"peak memory (allocated) {torch.cuda.max_memory_allocated()} B", flush=True)


def main():
    job = json.loads(sys.argv[1])
    import transformers  # noqa: F401
    from transformers import AutoModelForCausalLM, get_scheduler  # noqa: F401

    if job["variant"] != "plain":
        import liger_kernel.transformers  # noqa: F401
    print("ready", flush=True)
    sys.stdin.readline()
    model, loss_of = prepare(job)
    rows, size = read_rows(job["rows"]), job["batch"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=job["learning_rate"], weight_decay=0.0, fused=True)
    scheduler = get_scheduler("linear", optimizer, 0, job["steps"])
    for step in range(job["steps"]):
        batch = collate(rows[step * size : (step + 1) * size], job["objective"], job["device"])
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        value = loss.item()
        if job["device"] == "cuda":
            torch.cuda.synchronize()
        print(f"step {step + 1}/{job['steps']} loss {value:.9g}", flush=True)
        report_memory(job["device"])


if __name__ == "__main__":
    main()
