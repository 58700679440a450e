#!/usr/bin/env python3
"""deploy/docker without a container engine: install-image makes each image's content in a clean Debian root
(debootstrap), and what it installed is started the way the Dockerfile says: its entry point, environment and health
check, as uid 10001, on a read-only root, in a network of its own. A job on the CPU goes through it.

usage: image_check.py CMAKE BUILD SITE_PACKAGES

Without root or debootstrap the same script fills an empty prefix, and the programs run from there, as this user and
with this machine's libraries; the output says so.
"""
import ctypes
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from service import wait_for, write_inputs

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = ROOT / "deploy/docker"
ROLES = ("coordinator", "worker", "cli")
UID = 10001
CLONE_NEWNET = 0x40000000  # sched.h


def call(*command, **more):
    run = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if run.returncode != 0:
        raise AssertionError(f"{command} ended with {run.returncode}:\n{run.stdout[-4000:]}")
    return run.stdout


# ---- what the Dockerfile says


def stage(role):
    """Instructions of a final stage: name to the last one's text."""
    text = re.sub(r"\\\n\s*", " ", (STEPS / "Dockerfile").read_text())
    body = re.search(rf"^FROM \S+ AS {role}$(.*?)(?=^FROM |\Z)", text, re.M | re.S)[1]
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in body.splitlines() if re.match("[A-Z]+ ", line)}


def environment(role):
    return dict(pair.split("=", 1) for pair in stage(role)["ENV"].split())


def health(role):
    return json.loads(stage(role)["HEALTHCHECK"].split("CMD", 1)[1])


# ---- making the roots


def mirror():
    """This machine's own source of Debian 12."""
    lines = call("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME) $(COMPONENT)", "Created-By: Packages")
    for line in lines.splitlines():
        site, codename, component = line.split()
        if (codename, component) == ("bookworm", "main"):
            return site
    raise AssertionError("apt has no source of bookworm main")


def in_chroot(root, *command):
    return call("chroot", root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *(
        f"{k}={v}" for k, v in os.environ.items() if k.lower().endswith("_proxy")), *command)


def link_or_copy(source, target):
    """Some GB: hard links where it is one file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["cp", "-al", source, target], stderr=subprocess.DEVNULL).returncode != 0:
        shutil.rmtree(target, ignore_errors=True)
        call("cp", "-a", source, target)


def make_root(work, role, tree, site_packages):
    root = work / role
    call("cp", "-a", work / "base", root)
    shutil.copytree(STEPS, root / "steps")
    shutil.copytree(tree, root / "tree", symlinks=True)
    arguments = ["/steps/install-image", role, "/tree"]
    if role == "worker":
        lists = [p.name for name in ("torch", "pyarrow", "nvidia") for p in site_packages.glob(f"{name}*.dist-info")]
        for part in ("torch/lib", "torch/version.py", "nvidia", "pyarrow", *lists):
            link_or_copy(site_packages / part, root / "site" / part)
        arguments.append("/site")
    in_chroot(root, *arguments)
    for folder in ("steps", "tree", "site"):
        shutil.rmtree(root / folder, ignore_errors=True)
    size = call("du", "-sm", root).split()[0]
    print(f"image_check: {role} has {size} MB", flush=True)


def check_contents(work):
    contents = (work / "worker/opt/liger/share/liger/contents.txt").read_text()
    assert re.search(r"^torch \d", contents, re.M) and re.search(r"^pyarrow \d", contents, re.M), contents
    for role in ("coordinator", "cli"):
        found = [p for p in (work / role).rglob("*torch*") if "usr/share" not in str(p)]
        assert not found, f"{role} has torch: {found}"
    for role in ROLES:
        for program in (work / role / "opt/liger").rglob("*"):
            assert not program.stat().st_mode & 0o022, f"{program} may be written by others"


# ---- starting what is in them


def prefix_of(work, role):
    """Goes before a command line: a read-only root, the role's environment and user, and its folders at /data and so
    on, which `work`/data holds."""
    binds = " && ".join(f"mount --bind {work}/data/{role}{folder} {work}/{role}{folder}"
                        for folder in ("/data", "/files", "/backups"))
    root = work / role
    script = (f"mount --bind {root} {root} && mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev && "
              f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp && {binds} && mount -o remount,bind,ro {root} && "
              f'exec chroot --userspec={UID}:{UID} {root} "$@"')
    return ["unshare", "-m", "sh", "-c", script, "sh", "env", "-i", *(f"{k}={v}" for k, v in environment(role).items())]


def loopback_up():
    with socket.socket() as any_socket:
        request = struct.pack("16sh", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def serve_roots(work):
    loopback_up()  # of this process's own network: the images' default ports are free
    for role in ROLES:
        for folder in ("data", "files", "backups"):
            (work / "data" / role / folder).mkdir(parents=True)
    files = work / "data/worker/files"
    write_inputs(files)
    call("chown", "-R", f"{UID}:{UID}", work / "data")
    run = {role: prefix_of(work, role) for role in ROLES}
    denied = subprocess.run([*run["coordinator"], "touch", "/opt/liger/x"], capture_output=True, text=True)
    assert denied.returncode != 0 and "Read-only file system" in denied.stderr, denied.stderr
    exercise(run, {"coordinator": "/data/coordinator", "backup": "/backups/first", "worker": "/data/worker",
                   "files": "/files"}, files / "outputs", work, uid=UID)


def exercise(run, folders, outputs, work, uid):
    """Coordinator, worker, a job, a backup, the end; each health check before and after."""
    entry = {role: json.loads(stage(role)["ENTRYPOINT"])[0] for role in ROLES}
    prefix = os.environ.get("LIGER_PREFIX_BIN")
    program = {role: f"{prefix}/{role}/bin/{pathlib.Path(entry[role]).name}" if prefix else entry[role]
               for role in ROLES}
    processes = []

    def spawn(role, *arguments):
        log = open(work / f"{role}.log", "w")
        processes.append((role, subprocess.Popen([*run[role], program[role], *arguments], stdout=log,
                                                 stderr=subprocess.STDOUT)))

    def healthy(role):
        command = [program[role] if part == entry[role] else part for part in health(role)]
        return subprocess.run([*run[role], *command], capture_output=True).returncode == 0

    def cli(*arguments):
        return call(*run["cli"], program["cli"], *arguments)

    def logs():
        return "".join(f"---- {role}\n{(work / f'{role}.log').read_text()[-3000:]}" for role, _ in processes)

    try:
        assert not healthy("coordinator") and not healthy("worker"), "healthy before it runs"
        spawn("coordinator", f"--data-dir={folders['coordinator']}")
        wait_for(lambda: healthy("coordinator"), "the coordinator's health check")
        spawn("worker", f"--data-dir={folders['worker']}", f"--model-root={folders['files']}/models",
              f"--dataset-root={folders['files']}/datasets", f"--output-root={folders['files']}/outputs",
              "--cpu-slots=1", "--metrics-listen=127.0.0.1:7073")
        wait_for(lambda: healthy("worker"), "the worker's health check")
        for _, process in processes:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(rf"^Uid:\t{uid}\t{uid}\t", status, re.M), status
        print(cli("submit", "--name", "first", "--trainer", "sft", "--set", "model.uri=tiny", "--set",
                  "model.random_init=true", "--set", "dataset.uri=tiny.jsonl", "--set", "training.max_steps=5",
                  "--set", "training.max_length=64", "--set", "resources.device_kind=CPU", "--wait"))
        assert (outputs / "first/model.safetensors").exists(), sorted(outputs.rglob("*"))
        print(call(*run["coordinator"], program["coordinator"], "backup", f"--data-dir={folders['coordinator']}",
                   f"--out={folders['backup']}"))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{logs()}") from None
    finally:
        for role, process in reversed(processes):
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            assert code == 0, f"{role} ended with {code}:\n{logs()}"


# ---- the two ways


def in_roots(work, tree, site_packages):
    call("debootstrap", "--variant=minbase", "bookworm", work / "base", mirror())
    shutil.copy("/etc/resolv.conf", work / "base/etc/resolv.conf")
    for role in ROLES:
        make_root(work, role, tree, site_packages)
    check_contents(work)
    # A network and mounts that end with the process.
    subprocess.run(["unshare", "-mn", sys.executable, __file__, "--serve-roots", str(work)], check=True)
    print("image_check: installed in debootstrap's root, started read-only as uid 10001")


def in_prefix(work, tree, site_packages, why):
    print(f"image_check: IN AN EMPTY PREFIX, with this machine's libraries and user: {why}", flush=True)
    if os.getuid() == 0 and ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
        loopback_up()  # the default ports are free in a network of its own
    for role in ROLES:
        call(STEPS / "install-image", role, tree, *([site_packages] if role == "worker" else []),
             env=os.environ | {"LIGER_PREFIX": str(work / role)})
    write_inputs(work / "files")
    run = {role: ["env", f"LIGER_TORCH_DIR={work}/worker/python/torch"] for role in ROLES}
    os.environ["LIGER_PREFIX_BIN"] = str(work)
    exercise(run, {"coordinator": work / "data/coordinator", "backup": work / "backup", "worker": work / "data/worker",
                   "files": work / "files"}, work / "files/outputs", work, uid=os.getuid())


def main():
    if sys.argv[1] == "--serve-roots":
        return serve_roots(pathlib.Path(sys.argv[2]))
    cmake, build, site_packages = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), pathlib.Path(sys.argv[3]).resolve()
    why = ("not root" if os.getuid() != 0 else "no debootstrap" if not shutil.which("debootstrap") else "")
    if os.environ.get("LIGER_IMAGE_CHECK") == "prefix":
        why = "LIGER_IMAGE_CHECK=prefix"
    with tempfile.TemporaryDirectory(prefix="liger-image-", dir=build) as folder:
        work = pathlib.Path(folder)
        call(cmake, "--install", build, "--prefix", work / "tree", "--strip")
        if why:
            in_prefix(work, work / "tree", site_packages, why)
        else:
            in_roots(work, work / "tree", site_packages)


if __name__ == "__main__":
    main()
