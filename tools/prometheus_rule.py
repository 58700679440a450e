#!/usr/bin/env python3
"""Writes the rules of deploy/prometheus/rules as the PrometheusRule of deploy/kubernetes, which Prometheus's operator
loads; with --check, says whether that is what it would write. Needs PyYAML."""
import pathlib
import sys

import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[1] / "deploy"
OUT = DEPLOY / "kubernetes/components/monitoring/rules.yaml"


def main():
    files = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "liger"},
            "spec": {"groups": groups}}
    text = ("# Made by tools/prometheus_rule.py of deploy/prometheus/rules: change those.\n" +
            yaml.safe_dump(rule, sort_keys=False, width=120))
    if sys.argv[1:] != ["--check"]:
        OUT.write_text(text)
    elif not OUT.exists() or OUT.read_text() != text:
        sys.exit(f"{OUT} is not what tools/prometheus_rule.py makes: run it")


if __name__ == "__main__":
    main()
