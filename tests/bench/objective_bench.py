"""Steps of SFT, ORPO, DPO and KTO on a GPU: this trainer (LIGER, BASELINE) and transformers with Liger's or TRL's losses.

usage: objective_bench.py [--cases TEXT,TEXT] [--programs NAME,NAME] [--rounds 1] [--steps 6] [--warmup 2] [--seconds N]
                          [--trainer COMMAND] [--scratch FOLDER] [--pairs FILE] [--json FILE] [--tiny] [--list]
       objective_bench.py --prepare FILE [--tokenizer FOLDER]

Random-init models, bf16 parameters, gradients and states, full activation checkpointing. Dense cases: random tokens, no
prompt to share; 16 rows of 1024 are 8 pairs. Real pairs: tests/data/dpo_en_demo.json as --prepare tokenised it, at most
1024 tokens; counted are the tokens of all sequences without padding, the prompt of a pair twice, on all sides.

transformers+liger takes Liger's chunked losses, as TRL used them before 1.16; +trl takes TRL 1.16's chunked
log-probabilities. BASELINE and plain transformers hold all logits.
"""

import gzip
import json
import sys

import bench_env
import step_cases
from step_cases import Case

ALL = ("LIGER", "transformers+liger", "BASELINE", "transformers", "transformers+trl")
FUSED = ("LIGER", "transformers+liger", "transformers+trl")
MAX_LENGTH = 1024
ROLES = {"human": "user", "gpt": "assistant", "system": "system"}


def prepare(path, tokenizer_folder):
    """Writes the pairs' ids: the prompt by the chat template, each answer what the template adds for it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)

    def ids(messages, **options):
        return tokenizer(tokenizer.apply_chat_template(messages, tokenize=False, **options))["input_ids"]

    def message(turn):
        return {"role": ROLES[turn["from"]], "content": turn["value"]}

    count = 0
    with gzip.open(path, "wt", encoding="utf-8") as out:
        for row in json.load(open(bench_env.ROOT / "tests/data/dpo_en_demo.json", encoding="utf-8")):
            messages = [message(turn) for turn in row["conversations"]]
            prompt = ids(messages, add_generation_prompt=True)
            answers = [ids([*messages, message(row[name])])[:MAX_LENGTH] for name in ("chosen", "rejected")]
            if any(answer[: len(prompt)] != prompt or len(answer) == len(prompt) for answer in answers):
                continue  # cut before the answer begins
            chosen, rejected = (answer[len(prompt) :] for answer in answers)
            out.write(json.dumps({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}) + "\n")
            count += 1
    print(f"{count} pairs in {path}")


def read_pairs(path):
    if path is None:
        return None
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def dense(model, sequences, length, programs_of):
    """A case an objective; `sequences` rows a step, so half as many pairs."""
    cases = []
    for objective in ("sft", "orpo", "dpo", "kto"):
        batch = sequences if objective in ("sft", "kto") else sequences // 2
        cases.append(Case(f"{model} {objective} {sequences}x{length}", model, objective, batch, length, True,
                          programs_of(objective)))  # fmt: skip
    return cases


def cases(arguments):
    pairs = read_pairs(arguments.pairs)
    real = []
    if pairs:
        model = "tiny" if arguments.tiny else "llama3.2-1b"
        batch = 2 if arguments.tiny else 8
        real = [Case(f"{model} {objective} dpo_en_demo", model, objective, batch, MAX_LENGTH, True, FUSED, pairs)
                for objective in ("orpo", "dpo")]  # fmt: skip
    if arguments.tiny:
        return dense("tiny", 4, 64, lambda _: ALL) + real
    # The larger model's reference does not fit beside it in 80 GB on any side; those cases say so.
    return (dense("llama3.2-1b", 16, 1024, lambda _: ALL) + real
            + dense("llama3-8b", 8, 1024, lambda objective: ALL[:3] if objective in ("sft", "orpo") else FUSED))  # fmt: skip


def extend(parser):
    parser.add_argument("--pairs", help="tokenised pairs that --prepare wrote; without, no cases of real pairs")
    parser.add_argument("--prepare", metavar="FILE", help="write FILE (.jsonl.gz) and end")
    parser.add_argument("--tokenizer", default=str(bench_env.ROOT / ".cache/models-v2/smollm2-135m"))
    parser.set_defaults(rounds=1)


if __name__ == "__main__":
    if "--prepare" in sys.argv:
        import argparse

        parser = argparse.ArgumentParser()
        parser.add_argument("--prepare", required=True)
        parser.add_argument("--tokenizer", default=str(bench_env.ROOT / ".cache/models-v2/smollm2-135m"))
        arguments = parser.parse_args()
        prepare(arguments.prepare, arguments.tokenizer)
    else:
        step_cases.main(__doc__, cases, extend)
