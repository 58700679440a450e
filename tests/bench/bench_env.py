"""What the Python benchmarks share: where things lie, versions, JSON."""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import types

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Every run tokenises its rows; those that an earlier one kept would make it look faster.
os.environ.setdefault("LIGER_DATA_CACHE", "off")
LIGER_KERNEL_VERSION, TRL_VERSION = "0.8.5", "1.16.0"


def build_path(relative):
    """A file of the build folder (BUILD, by default build)."""
    return str(ROOT / os.environ.get("BUILD", "build") / relative)


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit():
    """LIGER_COMMIT, or that of the checkout."""
    given = os.environ.get("LIGER_COMMIT")
    if given:
        return given
    result = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return result.stdout.strip() or "unknown"


def driver():
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def facts():
    """Machine, commit and versions, as they go into the JSON and above the tables."""
    import torch

    gpu = torch.cuda.is_available()
    packages = ["torch", "triton", "transformers", "liger-kernel", "trl", "nvidia-cutlass-dsl", "liger-cute-kernels"]
    return {
        "commit": commit(),
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {os.cpu_count()} cores",
        "driver": driver() if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "versions": {name: version(name) for name in packages},
    }


def print_facts(values):
    known = ", ".join(f"{name} {number or '-'}" for name, number in values["versions"].items())
    print(f"commit {values['commit']}; {values['device']}, driver {values['driver']}, CUDA {values['cuda']}; {known}")


def require_version(package, wanted):
    """None when `wanted` is installed, else why not; another version would not be the comparison asked for."""
    found = version(package)
    if found == wanted:
        return None
    return f"{package} {wanted} is not installed" + (f" ({found} is)" if found else "")


def trl_logprob():
    """TRL's ChunkedLogProbFunction; from its file alone where TRL's own needs (datasets) are missing.

    The one thing that the file takes from the rest of TRL gathers sharded weights, which one GPU has none of.
    """
    try:
        importlib.import_module("trl.trainer.utils")  # what the function imports when it runs
        return importlib.import_module("trl.kernels.chunked_logprob").ChunkedLogProbFunction
    except ImportError:
        for name in [name for name in sys.modules if name.split(".")[0] == "trl"]:
            del sys.modules[name]
    spec = importlib.util.find_spec("trl")
    if spec is None:
        return None
    for name in ("trl", "trl.kernels", "trl.trainer", "trl.trainer.utils"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    sys.modules["trl.trainer.utils"].maybe_gather_lm_head_ctx = lambda *_: contextlib.nullcontext()
    path = pathlib.Path(spec.submodule_search_locations[0]) / "kernels/chunked_logprob.py"
    spec = importlib.util.spec_from_file_location("trl.kernels.chunked_logprob", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.ChunkedLogProbFunction


def write_json(path, value):
    if path:
        with open(path, "w", encoding="utf-8") as out:
            json.dump(value, out, indent=1)
