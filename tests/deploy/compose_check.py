#!/usr/bin/env python3
"""deploy/docker/compose.yaml, the Dockerfile and deploy/systemd: parsed, and held against the programs and the files
that they name. No container is started; install-image has a test of its own (image_check.py).

usage: compose_check.py BIN VERSION
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy/docker"
SYSTEMD = ROOT / "deploy/systemd"
OURS = {"coordinator": "liger-coordinator", "worker": "liger-worker", "cli": "liger-cli"}
# By `systemd-analyze security`, 0 to 10 (worst). The worker needs devices and CUDA's code in memory.
EXPOSURE = {"liger-coordinator.service": 1.5, "liger-worker.service": 2.5, "liger-backup.service": 1.0}


def flags_of(program, *verb):
    text = subprocess.run([BIN / program, *verb, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z-]+", text))


def used_flags(arguments):
    return {word.split("=")[0] for word in arguments if word.startswith("--")}


class ComposeTest(unittest.TestCase):
    def setUp(self):
        self.compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
        self.services = self.compose["services"]

    def test_flags_exist(self):
        for name in ("coordinator", "worker"):
            used = used_flags(self.services[name]["command"])
            self.assertTrue(used)
            self.assertLessEqual(used, flags_of(OURS[name]))

    def test_images_are_pinned(self):
        for name, service in self.services.items():
            tag = service["image"].rpartition(":")[2]
            if name in OURS:
                self.assertEqual(service["image"], f"{OURS[name]}:{VERSION}")
                self.assertEqual(service["build"]["target"], name)
            else:
                self.assertRegex(tag, r"^v?\d+\.\d+\.\d+$")

    def test_hardened(self):
        for name, service in self.services.items():
            with self.subTest(service=name):
                self.assertIs(service["read_only"], True)
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                self.assertNotEqual(service["user"].split(":")[0], "0")
                self.assertNotIn("privileged", service)
                for port in service.get("ports", []):
                    self.assertTrue(port.startswith("127.0.0.1:"), port)
                if service.get("ports"):
                    self.assertIn("outside", service["networks"])
        self.assertIs(self.compose["networks"]["liger"]["internal"], True)

    def test_names_and_files_exist(self):
        for service in self.services.values():
            for volume in service.get("volumes", []):
                source = volume.rpartition("}")[0] or volume.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((DOCKER / source).resolve().exists(), source)
                elif not source.startswith("$"):
                    self.assertIn(source, self.compose["volumes"])
            self.assertLessEqual(set(service["networks"]), set(self.compose["networks"]))
            self.assertLessEqual(set(service.get("secrets", [])), set(self.compose["secrets"]))
            self.assertLessEqual(set(service.get("depends_on", {})), set(self.services))

    def test_prometheus_scrapes_these_services(self):
        for name, port in (("coordinator", "7072"), ("worker", "7073")):
            file = DOCKER / "targets" / ("workers.yml" if name == "worker" else f"{name}.yml")
            self.assertEqual(yaml.safe_load(file.read_text()), [{"targets": [f"{name}:{port}"]}])
            self.assertIn(f"--metrics-listen=0.0.0.0:{port}", self.services[name]["command"])

    def test_grace_is_longer_than_the_stop(self):
        stop = next(int(a.split("=")[1]) for a in self.services["worker"]["command"] if a.startswith("--stop-grace"))
        self.assertGreater(int(self.services["worker"]["stop_grace_period"].rstrip("s")), stop + 30)


class DockerfileTest(unittest.TestCase):
    TEXT = re.sub(r"\\\n\s*", " ", (DOCKER / "Dockerfile").read_text())

    def test_every_image(self):
        for role, program in OURS.items():
            with self.subTest(role=role):
                stage = re.search(rf"^FROM \S+ AS {role}$(.*?)(?=^FROM |\Z)", self.TEXT, re.M | re.S)[1]
                self.assertIn("USER 10001:10001", stage)
                self.assertIn(f'ENTRYPOINT ["/opt/liger/bin/{program}"]', stage)
                self.assertIn(f"install-image {role} /tree", stage)
                self.assertRegex(stage, "HEALTHCHECK (--interval|NONE)")
                for label in ("title", "description", "version", "revision", "licenses", "base.name"):
                    self.assertIn(f"org.opencontainers.image.{label}=", stage)

    def test_pinned(self):
        self.assertIn(f"ARG VERSION={VERSION}\n", self.TEXT)
        arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", self.TEXT, re.M))
        for source in re.findall(r"^FROM (\S+)", self.TEXT, re.M):
            image = arguments[source.strip("${}")]
            self.assertRegex(image.rpartition(":")[2], r"^\d+\.\d+", image)

    def test_packages_are_of_the_roles(self):
        lines = [line.split() for line in (DOCKER / "packages.txt").read_text().splitlines() if line[0] != "#"]
        self.assertEqual({role for role, _ in lines}, set(OURS))


class SystemdTest(unittest.TestCase):
    def setUp(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("NOT TESTED: no systemd-analyze")

    def test_units(self):
        with tempfile.TemporaryDirectory() as folder:
            for unit in SYSTEMD.glob("liger-*.*"):
                text = unit.read_text().replace("/opt/liger/bin", str(BIN))
                (pathlib.Path(folder) / unit.name).write_text(text)
            units = sorted(str(u) for u in pathlib.Path(folder).iterdir())
            verify = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True,
                                    env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"})
            complaints = [line for line in verify.stderr.splitlines() if "liger" in line]
            self.assertEqual((verify.returncode, complaints), (0, []), verify.stderr)
            for unit, limit in EXPOSURE.items():
                run = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", f"{folder}/{unit}"],
                                     capture_output=True, text=True)
                level = re.search(r"exposure level for \S+: ([\d.]+)", run.stdout)
                self.assertLessEqual(float(level[1]), limit, run.stdout)

    def test_flags_exist(self):
        for unit, program, verb in (("coordinator", "liger-coordinator", ()), ("worker", "liger-worker", ()),
                                    ("backup", "liger-coordinator", ("backup",))):
            [command] = re.findall(r"^ExecStart=(.*)$", (SYSTEMD / f"liger-{unit}.service").read_text(), re.M)
            used = used_flags(command.split())
            self.assertTrue(used)
            self.assertLessEqual(used, flags_of(program, *verb))

    def test_grace_is_longer_than_the_stop(self):
        text = (SYSTEMD / "liger-worker.service").read_text()
        stop = int(re.search(r"--stop-grace=(\d+)", text)[1])
        self.assertGreater(int(re.search(r"TimeoutStopSec=(\d+)", text)[1]), stop + 30)


if __name__ == "__main__":
    BIN, VERSION = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    del sys.argv[1:3]
    unittest.main(verbosity=2)
