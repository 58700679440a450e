"""Prints what the demo's jobs did. usage: demo_summary.py LIGER_CLI JOB...

Exit code 1 unless every job's eval loss fell.
"""

import json
import subprocess
import sys
import textwrap


def show(cli: str, name: str) -> bool:
    """Prints one job; whether its eval loss fell."""
    job = json.loads(subprocess.check_output([cli, "get", name, "-o", "json"]))
    status = job["status"]
    progress = status["progress"]
    print(f"== {name}: {status['state']}")
    losses = [e["values"]["eval_loss"] for e in status["evaluations"] if "eval_loss" in e["values"]]
    fell = losses[-1] < losses[0]
    print(f"   eval loss    {losses[0]:.4f} before, {losses[-1]:.4f} after{'' if fell else ': IT DID NOT FALL'}")
    peaks = ", ".join(f"{int(v) / 1e9:.2f} GB {k}" for k, v in progress["peak_memory_bytes"].items())
    print(f"   speed        {progress['mean_tokens_per_second']:.0f} tokens/s, peak memory {peaks}")
    samples = status["samples"]
    print(f"   prompt       {samples[0]['prompt']}")
    for when, sample in (("before", samples[0]), ("after", samples[-1])):
        # Proto JSON leaves an empty answer out.
        text = textwrap.shorten(" ".join(sample.get("text", "").split()), 300)
        print(textwrap.fill(text, 100, initial_indent=f"   {when:<13}", subsequent_indent=" " * 16))
    print(f"   model        {status['output_uri']}")
    return fell


all_fell = all([show(sys.argv[1], job_name) for job_name in sys.argv[2:]])
print("(answers end at 48 tokens: training.sample_max_new_tokens of the demo's jobs)")
sys.exit(0 if all_fell else 1)
