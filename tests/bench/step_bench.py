"""SFT steps of random-init models on a GPU: this trainer (LIGER, BASELINE), transformers, transformers with Liger.

usage: step_bench.py [--cases TEXT,TEXT] [--programs NAME,NAME] [--rounds 2] [--steps 6] [--warmup 2] [--seconds N]
                     [--trainer COMMAND] [--scratch FOLDER] [--json FILE] [--tiny] [--list]

Parameters, gradients and optimizer states in bf16 on all sides: ours with stochastic rounding, the others with torch's
fused AdamW. +keep and +offload: gradient_checkpointing_keep_attention and activation_offloading. Rows are dense random
tokens, the same for all; attention is each side's own (transformers: SDPA). Tokens are real tokens; memory is the most
that torch's allocator had handed out. A program that runs out of memory says so.
"""

import step_cases
from step_cases import Case

PROGRAMS = ("LIGER", "transformers+liger", "BASELINE", "transformers")
CHECKPOINTED = ("LIGER", "LIGER+keep", "LIGER+keep+offload", *PROGRAMS[1:])


def cases(arguments):
    if arguments.tiny:
        return [Case(f"tiny 2x64, {'full' if full else 'no'} checkpointing", "tiny", "sft", 2, 64, full, CHECKPOINTED if full else PROGRAMS)
                for full in (False, True)]  # fmt: skip
    return [
        Case("llama3.2-1b 8x2048, no checkpointing", "llama3.2-1b", "sft", 8, 2048, False, PROGRAMS),
        Case("llama3.2-1b 8x2048, full checkpointing", "llama3.2-1b", "sft", 8, 2048, True, CHECKPOINTED),
        Case("llama3-8b 4x4096, full checkpointing", "llama3-8b", "sft", 4, 4096, True, CHECKPOINTED),
        Case("llama3-8b 2x4096, no checkpointing", "llama3-8b", "sft", 2, 4096, False, PROGRAMS),
    ]


if __name__ == "__main__":
    step_cases.main(__doc__, cases)
