#!/usr/bin/env python3
"""The rules and dashboards of deploy/ on a real service: two jobs on the CPU, with the fused kernels and without, are
scraped by a real Prometheus, and every panel's query is evaluated through its HTTP API.

usage: dashboards_check.py BIN FAKE_NVML
  BIN: the folder of the programs. FAKE_NVML: a folder with a libnvidia-ml.so.1 that has one GPU, so that the series of
  GPUs are there; the jobs train on a CPU slot beside it.

Grafana itself is not run: its files are parsed and checked here, and its variables are filled in as it fills them.
"""
import itertools
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import yaml

from service import ROOT, Service, free_port, wait_for, write_inputs

GRAFANA = ROOT / "deploy/grafana"
UIDS = {"fleet": "liger-fleet", "queue": "liger-queue", "job": "liger-job", "compare": "liger-compare"}
DASHBOARDS = {name: json.loads((GRAFANA / f"dashboards/{name}.json").read_text()) for name in UIDS}
KERNELS = ("LIGER", "BASELINE")
JOB_SECONDS = 8  # several scrapes while a job trains, on a fast machine too: a rate needs two
EXPERIMENT = "cpu-check"
RAN, TOOK = "grid", "grid-again"  # the latter takes the results of the former
REMADE = "remade"  # deleted and made again, with other jobs of another name
GRID = """
name: %s
grid:
  - {field: training.per_device_train_batch_size, values: [2]}
job:
  model: {uri: tiny, random_init: true}
  dataset: {uri: tiny.jsonl}
  sft:
  training: {max_length: 64, max_steps: 300, logging_steps: 1}
  resources: {device_kind: CPU}
"""


class Prometheus:
    """The files of deploy/prometheus, with this service as the only target and a scrape every second."""

    def __init__(self, work, service):
        shutil.copytree(ROOT / "deploy/prometheus", work)
        config = work / "prometheus.yml"
        config.write_text(config.read_text().replace("interval: 5s", "interval: 1s"))
        for name, address in (("coordinator", service.ports["metrics"]), ("workers", service.worker_metrics)):
            (work / f"targets/{name}.yml").write_text(yaml.dump([{"targets": [address]}]))
        self.address = f"127.0.0.1:{free_port()}"
        self.log = open(work / "prometheus.log", "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={work}/data",
             f"--web.listen-address={self.address}"], stdout=self.log, stderr=subprocess.STDOUT)
        wait_for(self.is_ready, "prometheus is ready")

    def is_ready(self):
        assert self.process.poll() is None, "prometheus ended:\n" + pathlib.Path(self.log.name).read_text()
        try:
            return urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def value(self, expr):
        """Of an expression that is one number now."""
        result = self.get("query", query=expr)["result"]
        return float(result[0]["value"][1]) if len(result) == 1 else None

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()


def setUpModule():
    global WORK, SERVICE, PROMETHEUS, BEGIN
    BEGIN = time.time()
    WORK = tempfile.TemporaryDirectory(prefix="liger-dashboards-")
    unittest.addModuleCleanup(WORK.cleanup)
    work = pathlib.Path(WORK.name)
    write_inputs(work)
    SERVICE = Service(BIN, work, {"LD_LIBRARY_PATH": str(FAKE_NVML), "OMP_NUM_THREADS": "1"}, ["--cpu-slots", "1"])
    unittest.addModuleCleanup(SERVICE.stop)
    SERVICE.start()
    PROMETHEUS = Prometheus(work / "prometheus", SERVICE)
    unittest.addModuleCleanup(PROMETHEUS.stop)
    # A histogram's first value is no increase: no job waits or trains before its series of nothing has been seen.
    wait_for(lambda: PROMETHEUS.value("sum(liger_queue_wait_seconds_count)") == 0, "a scrape of an empty queue")
    steps = steps_that_take(JOB_SECONDS)
    for kernels in KERNELS:
        submit(kernels.lower(), steps, "--label", f"experiment={EXPERIMENT}", "--set", f"kernels.mode={kernels}")
    submit("bad", 1, "--set", "dataset.uri=bad.jsonl")
    for kernels in KERNELS:
        SERVICE.cli("watch", kernels.lower())
    # The last numbers of the last job have been scraped.
    wait_for(lambda: PROMETHEUS.value('sum(max_over_time(liger_job_step{job_name!="probe"}[1h]))') == 2 * steps,
             "all steps")
    wait_for(lambda: PROMETHEUS.value('count(liger_job:state:info{state="SUCCEEDED",job_name!="probe"})') == 2,
             "both states")
    # Steps come on a stream of their own, which may end after the job.
    wait_for(lambda: PROMETHEUS.value('sum(liger_job_step_seconds_count{job_name!="probe"})') == 2 * steps,
             "all steps in the histograms")
    wait_for(lambda: PROMETHEUS.value('count(liger_job:timed_tokens_per_second:succeeded{job_name!="probe"} == '
                                      'on (job_uid) liger_job_timed_tokens_per_second)') == 2, "both final speeds")
    for name in (RAN, TOOK):
        run_experiment(work, name)
    run_experiment(work, REMADE, "--set", "job.training.max_steps=20")
    SERVICE.cli("experiment", "delete", REMADE)
    run_experiment(work, REMADE, "--set", "job.training.max_steps=30")
    taken = f'liger_job:timed_tokens_per_second:succeeded{{experiment="{TOOK}"}}'
    wait_for(lambda: PROMETHEUS.value(f"count({taken})") == 2, "the jobs that were taken")


def run_experiment(work, name, *flags):
    (work / f"{name}.yaml").write_text(GRID % name)
    SERVICE.cli("experiment", "submit", "--wait", *flags, "-f", work / f"{name}.yaml")
    now = json.loads(SERVICE.cli("experiment", "get", name, "-o", "json"))
    assert now["counts"].get("cached", 0) == (2 if name == TOOK else 0), now["counts"]
    ended = f'liger_job:state:info{{state="SUCCEEDED",experiment_uid="{now["uid"]}"}}'
    wait_for(lambda: PROMETHEUS.value(f"count({ended})") == len(KERNELS), f"both ends of {name}")


def steps_that_take(seconds):
    """By a job of a hundred steps."""
    submit("probe", 100)
    SERVICE.cli("watch", "probe")
    progress = json.loads(SERVICE.cli("get", "probe", "-o", "json"))["status"]["progress"]
    tokens_a_step = float(progress["tokens_total"]) / 100
    return math.ceil(seconds * progress["mean_tokens_per_second"] / tokens_a_step)


def submit(name, steps, *flags):
    SERVICE.cli("submit", "--name", name, "--trainer", "sft", "--set", "model.uri=tiny", "--set",
                "model.random_init=true", "--set", "dataset.uri=tiny.jsonl", "--set", f"training.max_steps={steps}",
                "--set", "training.per_device_train_batch_size=2", "--set", "training.max_length=64", "--set",
                "resources.device_kind=CPU", "--set", "training.logging_steps=1", *flags)


def report_of(first, second):
    """What liger-cli compare says of two jobs."""
    return json.loads(SERVICE.cli("compare", first, second, "-o", "json", "--out", f"{WORK.name}/report"))


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variable_values(dashboard, chosen):
    """Name to value, asked of Prometheus as Grafana does for label_values() and query_result(); `chosen` where it gives a
    choice."""
    values = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        found = uids(variable, values) if "regex" in variable else label_values(variable, values)
        if not found and variable["name"] == "experiment_uid":  # of jobs that were only labelled as an experiment's
            values["experiment_uid"] = ""
            continue
        assert found, f"variable {variable['name']} of {dashboard['uid']} has no values"
        values[variable["name"]] = chosen[variable["name"]] if variable["name"] in chosen else found[0]
        assert values[variable["name"]] in found, (values, found)
    return values


def label_values(variable, values):
    match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
    return PROMETHEUS.get(f"label/{match[2]}/values",
                          **{"match[]": substitute(match[1], values), "start": BEGIN, "end": time.time()})


def uids(variable, values):
    """Grafana writes each sample as in the text format, and takes what the regex captures, in this order."""
    [expr] = re.fullmatch(r"query_result\((.*)\)", variable["query"]["query"]).groups()
    samples = ("{%s}" % ",".join(f'{name}="{value}"' for name, value in sample["metric"].items())
               for sample in PROMETHEUS.get("query", query=substitute(expr, values))["result"])
    assert variable["sort"] == 0, "the newest first"
    return [match[1] for match in (re.search(variable["regex"].strip("/"), sample) for sample in samples) if match]


def substitute(text, values):
    values = {"__range": f"{int(time.time() - BEGIN) + 1}s", "__rate_interval": "10s"} | values
    for name, value in values.items():
        text = re.sub(rf"\$({name}\b|{{{name}}})", value, text)
    return text


def evaluate(target, values):
    """[(labels, numbers)] of the series that a panel's query gives."""
    expr, end = substitute(target["expr"], values), time.time()
    if target["instant"]:
        return [(s["metric"], [float(s["value"][1])]) for s in PROMETHEUS.get("query", query=expr)["result"]]
    result = PROMETHEUS.get("query_range", query=expr, start=BEGIN, end=end, step=1)["result"]
    return [(s["metric"], [float(v) for _, v in s["values"]]) for s in result]


def check_target(test, panel, target, values):
    series = evaluate(target, values)
    test.assertTrue(any(math.isfinite(v) for _, numbers in series for v in numbers), "no data")
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        for labels, _ in series:
            test.assertTrue(labels.get(label), f"legend label {label} is not among {labels}")
    legends = [re.sub(r"{{(\w+)}}", lambda m: labels[m[1]], target["legendFormat"]) for labels, _ in series]
    if panel["type"] != "table":
        test.assertEqual(len(set(legends)), len(legends), "two series with one legend")


class QueriesTest(unittest.TestCase):
    CHOSEN = {"job": "liger", "experiment": EXPERIMENT, "job_a": "liger", "job_b": "baseline"}

    def evaluate_all(self, name, **chosen):
        values = variable_values(DASHBOARDS[name], self.CHOSEN | chosen)
        for panel in panels(DASHBOARDS[name]):
            for target in panel["targets"]:
                with self.subTest(dashboard=name, panel=panel["title"], query=target["expr"]):
                    check_target(self, panel, target, values)

    def test_every_panel_has_data_and_the_labels_of_its_legend(self):
        for name in DASHBOARDS:
            self.evaluate_all(name)

    def test_an_experiment_has_the_jobs_that_it_took(self):
        self.evaluate_all("compare", experiment=TOOK)
        for panel in panels(DASHBOARDS["compare"])[:9]:
            [target] = panel["targets"]
            of = {name: evaluate(target, variable_values(DASHBOARDS["compare"], self.CHOSEN | {"experiment": name}))
                  for name in (RAN, TOOK)}
            with self.subTest(panel=panel["title"]):
                if panel["type"] == "table":
                    of[RAN] = [(labels | {"experiment": TOOK}, numbers) for labels, numbers in of[RAN]]
                if panel["type"] == "timeseries":  # time goes on between the two
                    of = {name: [(labels, []) for labels, _ in series] for name, series in of.items()}
                ran, took = (sorted((sorted(labels.items()), [f"{v:.9g}" for v in numbers])
                                    for labels, numbers in of[name]) for name in (RAN, TOOK))
                self.assertEqual(ran, took)

    def test_an_experiment_made_again_under_its_name_has_its_own_jobs_alone(self):
        now = json.loads(SERVICE.cli("experiment", "get", REMADE, "-o", "json"))
        values = variable_values(DASHBOARDS["compare"], self.CHOSEN | {"experiment": REMADE})
        self.assertEqual(values["experiment_uid"], now["uid"], "the newest is the default")
        names = {labels["job_name"] for labels, _ in self.panel_values("Jobs", values)}
        self.assertEqual(names, {job["job_name"] for job in now["jobs"]})
        ended = [numbers for _, numbers in self.panel_values("How the jobs ended", values)]
        self.assertEqual(ended, [[1.0]] * len(KERNELS))

    def test_compare_shows_the_speeds_and_the_ratio_of_the_report(self):
        values = variable_values(DASHBOARDS["compare"], self.CHOSEN)
        report = report_of("liger", "baseline")
        speeds = {run["job"]: run["tokens_per_second"] for run in report["runs"]}
        for title in ("Tokens a second, LIGER / BASELINE", "Tokens a second, A / B"):
            [(_, [ratio])] = self.panel_values(title, values)
            self.assertAlmostEqual(ratio, report["points"][0]["speed_ratio"]["ratio"], delta=0.01 * ratio)
        for labels, [speed] in self.panel_values("Tokens a second of A and B", values):
            self.assertAlmostEqual(speed, speeds[labels["job_name"]], delta=0.01 * speed)
        for labels, [speed] in self.panel_values("Tokens a second", values):
            self.assertAlmostEqual(speed, speeds[labels["kernels"].lower()], delta=0.01 * speed)

    def panel_values(self, title, values):
        panel = next(p for p in panels(DASHBOARDS["compare"]) if p["title"] == title)
        found = evaluate(panel["targets"][0], values)
        self.assertTrue(found, title)
        return found

    def test_rules_are_healthy_and_nothing_alerts(self):
        rules = [rule for group in PROMETHEUS.get("rules")["groups"] for rule in group["rules"]]
        self.assertEqual({rule["health"] for rule in rules}, {"ok"}, rules)
        self.assertEqual([r["name"] for r in rules if r.get("state") == "firing"], [])

    def test_zz_jobs_that_are_over_can_be_compared(self):
        """Last, since it ends the coordinator: its series are gone then, as a job's are 5 minutes after its end."""
        SERVICE.stop("liger-coordinator")
        wait_for(lambda: PROMETHEUS.value("count(liger_job_info)") is None, "the series are gone")
        for name in ("compare", "job"):
            self.evaluate_all(name)


class FilesTest(unittest.TestCase):
    def test_dashboards_are_what_the_generator_makes(self):
        subprocess.run([sys.executable, ROOT / "tools/dashboards.py", "--check"], check=True)

    def test_uids_are_stable_and_titles_unique(self):
        self.assertEqual({name: d["uid"] for name, d in DASHBOARDS.items()}, UIDS)
        self.assertEqual(len({d["title"] for d in DASHBOARDS.values()}), len(UIDS))

    def test_compare_is_of_one_experiment(self):
        [chosen] = [v for v in DASHBOARDS["compare"]["templating"]["list"] if v["name"] == "experiment"]
        self.assertFalse(chosen["multi"] or chosen["includeAll"], "a job that two took would count twice")

    def test_every_panel_says_what_it_shows(self):
        for name, dashboard in DASHBOARDS.items():
            self.assertEqual(len({p["id"] for p in dashboard["panels"]}), len(dashboard["panels"]))
            titles = [p["title"] for p in dashboard["panels"]]
            self.assertEqual(len(set(titles)), len(titles))
            for panel in panels(dashboard):
                with self.subTest(dashboard=name, panel=panel["title"]):
                    self.assertTrue(panel["description"].endswith("."))
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                    self.assertTrue(panel["targets"])

    def test_the_data_source_is_a_variable_everywhere(self):
        for dashboard in DASHBOARDS.values():
            self.assertEqual([v["name"] for v in dashboard["templating"]["list"] if v["type"] == "datasource"],
                             ["datasource"])
            text = json.dumps(dashboard)
            self.assertEqual(set(re.findall(r'"uid": "([^"]*)"', text)), {"${datasource}", dashboard["uid"]})

    def test_no_two_panels_overlap(self):
        for dashboard in DASHBOARDS.values():
            for one, other in itertools.combinations([p["gridPos"] for p in dashboard["panels"]], 2):
                apart = (one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"] or
                         one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"])
                self.assertTrue(apart, (dashboard["uid"], one, other))
                self.assertLessEqual(one["x"] + one["w"], 24)

    def test_provisioning(self):
        [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/liger.yml").read_text())["datasources"]
        self.assertEqual((source["type"], source["uid"]), ("prometheus", "liger-prometheus"))
        scrape = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"]["scrape_interval"]
        self.assertEqual(source["jsonData"]["timeInterval"], scrape)
        [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/liger.yml").read_text())["providers"]
        self.assertEqual(provider["type"], "file")


if __name__ == "__main__":
    BIN, FAKE_NVML = map(pathlib.Path, sys.argv[1:3])
    del sys.argv[1:3]
    unittest.main(verbosity=2)
