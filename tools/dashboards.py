#!/usr/bin/env python3
"""Writes deploy/grafana/dashboards/*.json; with --check, says whether they are what it would write.

A panel here is a row of PANELS: title, kind, unit, size, description, and queries with their legends. Numbers of jobs
come from the recorded series (deploy/prometheus/rules/recording.yml), which outlive the jobs' own; whatever is
summarised over the dashboard's range uses last_over_time or max_over_time, so that jobs that are over count.
"""
import json
import pathlib
import sys

OUT = pathlib.Path(__file__).resolve().parents[1] / "deploy/grafana/dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TOKENS = "suffix: tokens/s"
COLUMNS = 24
HEIGHT = 8


def query(expr, legend="", instant=False, table=False):
    return {"expr": expr, "legendFormat": legend, "instant": instant, "range": not instant,
            "format": "table" if table else "time_series", "datasource": SOURCE}


def now(expr, legend=""):
    return query(expr, legend, instant=True)


def rows(expr):
    return query(expr, instant=True, table=True)


def panel(kind, title, unit, description, *targets, width=12, maximum=None, options=None):
    defaults = {"unit": unit, "min": 0} if unit not in ("none", "short") else {"unit": unit}
    if maximum is not None:
        defaults["max"] = maximum
    if kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 5, "showPoints": "auto", "spanNulls": 60000}
    legend = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
              "tooltip": {"mode": "multi", "sort": "desc"}}
    shown = {"timeseries": legend,
             "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name", "colorMode": "none"},
             "gauge": {"reduceOptions": {"calcs": ["lastNotNull"]}},
             "bargauge": {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal",
                          "displayMode": "basic"},
             "table": {"showHeader": True},
             "state-timeline": {"mergeValues": True, "showValue": "never"},
             "heatmap": {"calculate": False, "yAxis": {"unit": unit}}}[kind]
    built = {"type": kind, "title": title, "description": description, "datasource": SOURCE, "width": width,
             "fieldConfig": {"defaults": defaults, "overrides": []}, "options": shown | (options or {}),
             "targets": [target | {"refId": chr(ord("A") + i)} for i, target in enumerate(targets)]}
    if kind == "table":  # the labels are the columns; time and the value 1 say nothing
        built["transformations"] = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}]
    return built


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "width": COLUMNS}


def variable(name, label, expr):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": expr,
            "query": {"query": expr, "refId": name}, "refresh": 2,  # with the range: jobs that are over, too
            "sort": 1, "multi": False, "includeAll": False, "hide": 0, "options": []}


def newest(name, label, uid, selector):
    """A variable of the uids that a name had within the range, those first that were seen last for the first time (one that
    was deleted stays for minutes): Grafana takes the first."""
    expr = f"query_result(sort_desc(max by ({uid}) (min_over_time(liger_job:seen:timestamp{{{selector}}}[$__range]))))"
    return variable(name, label, expr) | {"sort": 0, "regex": f'/{uid}="([^"]+)"/'}


def place(panels):
    """Left to right, top to bottom; ids in that order."""
    x = y = 0
    for number, item in enumerate(panels, 1):
        width, height = item.pop("width"), 1 if item["type"] == "row" else HEIGHT
        if x + width > COLUMNS or (item["type"] == "row" and x):
            x, y = 0, y + HEIGHT
        item |= {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}}
        x += width
        if x == COLUMNS:
            x, y = 0, y + height
    return panels


def dashboard(uid, title, description, variables, panels, since="now-6h"):
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1,
              "hide": 0, "multi": False, "includeAll": False, "options": []}
    links = [{"title": "Liger", "type": "dashboards", "tags": ["liger"], "asDropdown": True, "keepTime": True,
              "includeVars": False}]
    return {"uid": uid, "title": title, "description": description, "tags": ["liger"], "schemaVersion": 39,
            "version": 1, "editable": False, "graphTooltip": 1, "refresh": "10s", "timezone": "",
            "time": {"from": since, "to": "now"}, "links": links, "annotations": {"list": []},
            "templating": {"list": [source] + variables}, "panels": place(panels)}


def fleet():
    return dashboard("liger-fleet", "Liger: Fleet", "Workers, their devices, and the coordinator's own ports.", [], [
        panel("stat", "Workers", "short", "Known workers, by state.",
              now("sum by (state) (liger_workers)", "{{state}}"), width=8),
        panel("stat", "GPUs", "short", "GPUs of known workers, by state.",
              now("sum by (state) (liger_gpus)", "{{state}}"), width=8),
        panel("stat", "Jobs on devices", "short", "Jobs that hold a device or get one now.",
              now('sum by (state) (liger_jobs{state=~"STARTING|RUNNING|PAUSING|RECOVERING|CANCELLING"})', "{{state}}"),
              width=8),
        panel("timeseries", "Tokens a second", TOKENS, "Non-padding tokens that all jobs consume.",
              query("sum(rate(liger_job_tokens_total[$__rate_interval]))", "all jobs")),
        panel("timeseries", "Tasks", "short", "Tasks on all workers, by phase.",
              query("sum by (phase) (liger_worker_tasks)", "{{phase}}")),
        panel("timeseries", "Device memory in use", "percentunit",
              "Share of a device's memory in use by any process; of a CPU slot, of its share of the host's.",
              query("liger_worker:device_memory_used:ratio", "{{instance}} {{device}}"), maximum=1),
        panel("timeseries", "Device busy", "short", "1 while a task holds the device.",
              query("liger_worker_device_busy", "{{instance}} {{device}}"), maximum=1),
        panel("timeseries", "GPU utilization", "percentunit", "Share of the last period in which a kernel ran (NVML).",
              query("liger_worker_device_utilization_ratio", "{{instance}} {{device}}"), width=8, maximum=1),
        panel("timeseries", "GPU power", "watt", "Power drawn (NVML).",
              query("liger_worker_device_power_watts", "{{instance}} {{device}}"), width=8),
        panel("timeseries", "GPU temperature", "celsius", "Temperature (NVML).",
              query("liger_worker_device_temperature_celsius", "{{instance}} {{device}}"), width=8),
        panel("state-timeline", "Sessions", "short", "1 while the coordinator has welcomed the worker.",
              query("liger_worker_session_connected", "{{instance}}")),
        panel("timeseries", "Events not acknowledged", "short",
              "What a worker still has to tell the coordinator; rises while that is away.",
              query("liger_worker_spooled_events", "{{instance}}")),
        panel("table", "Versions", "short", "Every worker that is scraped, with its id and version.",
              rows("max by (instance, worker_id, version) (liger_worker_info)"), width=24),
        panel("timeseries", "Coordinator's calls", "reqps", "Calls completed, by method and status.",
              query("sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total[$__rate_interval]))",
                    "{{grpc_method}} {{grpc_code}}")),
        panel("timeseries", "Coordinator's latency", "s", "95th percentile of unary calls, by method.",
              query("histogram_quantile(0.95, sum by (le, grpc_method) "
                    "(rate(grpc_server_handling_seconds_bucket[$__rate_interval])))", "{{grpc_method}}")),
    ])


def queue():
    over = 'state=~"SUCCEEDED|FAILED|CANCELLED"'
    return dashboard("liger-queue", "Liger: Queue", "What waits, how long it waits, and how jobs end.", [], [
        panel("stat", "Jobs", "short", "Jobs that are not deleted, by state.",
              now("sum by (state) (liger_jobs) > 0", "{{state}}"), width=24),
        panel("timeseries", "Waiting", "short", "Jobs that are being checked or queued.",
              query('sum by (state) (liger_jobs{state=~"VALIDATING|QUEUED"})', "{{state}}")),
        panel("timeseries", "Under way", "short", "Jobs with an attempt, by state.",
              query('sum by (state) (liger_jobs{state=~"STARTING|RUNNING|PAUSING|RECOVERING|CANCELLING"})', "{{state}}")),
        panel("timeseries", "Longest wait now", "s", "Time that the longest queued job has waited.",
              query("max(liger_queue_oldest_wait_seconds)", "oldest")),
        panel("timeseries", "Starts an hour", "short", "Attempts that started in the last hour.",
              query("sum(increase(liger_queue_wait_seconds_count[1h]))", "started")),
        panel("stat", "Wait before a start", "s", "Of the attempts that started within the range.",
              *(now(f"histogram_quantile({q}, sum by (le) (increase(liger_queue_wait_seconds_bucket[$__range])))", name)
                for q, name in ((0.5, "median"), (0.95, "95%")))),
        panel("heatmap", "Waits", "s", "Attempts by how long they had waited.",
              query("sum by (le) (increase(liger_queue_wait_seconds_bucket[$__rate_interval]))", "{{le}}")
              | {"format": "heatmap"}),
        panel("bargauge", "Failures by cause", "short", "Jobs that failed within the range.",
              now("count by (failure) (max by (job_uid, failure) "
                  '(max_over_time(liger_job_state{state="FAILED", failure!=""}[$__range])))', "{{failure}}")),
        panel("bargauge", "Ends", "short", "Jobs that ended within the range, by state.",
              now(f"count by (state) (max by (job_uid, state) (max_over_time(liger_job_state{{{over}}}[$__range])))",
                  "{{state}}")),
        panel("table", "Jobs that ended", "short", "Within the range.",
              rows(f"max by (job_name, job_uid, state, failure) (max_over_time(liger_job_state{{{over}}}[$__range]))"),
              width=24),
    ])


def job():
    one = 'job_uid="$job_uid"'
    variables = [variable("job", "Job", "label_values(liger_job_info, job_name)"),
                 newest("job_uid", "Uid", "job_uid", 'job_name="$job"')]

    def by(labels, metric):
        """Over the targets: a coordinator that is back at another address exports its jobs again."""
        return f"max by ({labels}) ({metric}{{{one}}})"

    def line(title, unit, description, metric, labels="job_name", **more):
        legend = " ".join(f"{{{{{label}}}}}" for label in labels.split(", "))
        return panel("timeseries", title, unit, description, query(by(labels, metric), legend), **more)

    return dashboard("liger-job", "Liger: Job", "One job, while it runs or afterwards.", variables, [
        panel("table", "What it is", "short", "As resolved; one row a job of this name.",
              rows("max by (job_name, job_uid, model, trainer, kernels, dataset, batch_size, experiment) "
                   '(last_over_time(liger_job_info{job_name="$job"}[$__range]))'), width=18),
        panel("gauge", "Done", "percentunit", "Share of the steps done in the last attempt.",
              now(f"max by (job_name) (last_over_time(liger_job_progress_ratio{{{one}}}[$__range]))", "{{job_name}}"),
              width=6, maximum=1),
        panel("state-timeline", "State", "short", "The states that it went through.",
              query(by("state", "liger_job_state"), "{{state}}")),
        line("Time without progress", "s", "Since the trainer last finished a micro-batch, row or tensor.",
             "liger_job_idle_seconds"),
        line("Loss", "none", "Training loss of the last logged step.", "liger_job_loss"),
        line("Gradient norm", "none", "Before clipping.", "liger_job_grad_norm"),
        line("Learning rate", "none", "Of the last logged step.", "liger_job_learning_rate"),
        line("Step", "short", "Optimizer steps done in the current attempt.", "liger_job_step"),
        panel("timeseries", "Tokens a second", TOKENS, "Non-padding tokens: of the last logged step, and the mean.",
              query(by("job_name", "liger_job_tokens_per_second"), "{{job_name}} last step"),
              query(by("job_name", "liger_job_mean_tokens_per_second"), "{{job_name}} mean")),
        line("Peak memory", "bytes", "By kind: rss of a CPU job, allocated and reserved on a GPU.",
             "liger_job_peak_memory_bytes", "job_name, kind"),
        panel("timeseries", "Step time", "s", "Quantiles of the logged steps of the last minutes.",
              *(query(f"histogram_quantile({q}, sum by (le, job_name) "
                      f"(rate(liger_job_step_seconds_bucket{{{one}}}[$__rate_interval])))", f"{{{{job_name}}}} {name}")
                for q, name in ((0.5, "median"), (0.95, "95%")))),
        line("Tokens", "short", "Non-padding tokens consumed, over all attempts.", "liger_job_tokens_total"),
    ], since="now-1h")


def compare():
    # One: a job that several took would count once for each, and points of one name would be averaged.
    # Jobs may have the name without being an experiment's (--label experiment=NAME): then there is no uid.
    group = 'experiment="$experiment", experiment_uid="$experiment_uid"'
    pair = 'job_uid=~"$job_a_uid|$job_b_uid"'
    a, b = 'job_uid="$job_a_uid"', 'job_uid="$job_b_uid"'
    speed, memory = "liger_job:timed_tokens_per_second:succeeded", "liger_job:peak_memory_bytes:succeeded"
    timed = "Of the logged steps after a job's first, which warms up, over their time, as in the reports; "

    def last(metric, selector):
        return f"last_over_time({metric}{{{selector}}}[$__range])"

    def by(how, labels, metric, more):
        return f"{how} by ({labels}) ({last(metric, f'{group}, {more}')})"

    def ratio(labels, metric):
        return by("avg", labels, metric, 'kernels="LIGER"') + " / " + by("avg", labels, metric, 'kernels="BASELINE"')

    resolved = group + ', kernels!="UNSPECIFIED"'

    def of_experiment(metric):
        taken = f"last_over_time(liger_experiment_job_info{{{group}}}[$__range] @ end())"
        return f"{metric}{{{group}}} or {metric} and on (job_uid) {taken}"

    where_taken = "Of jobs that it took from an earlier experiment, when they ran."
    variables = [
        variable("experiment", "Experiment", 'label_values(liger_job:state:info{experiment!=""}, experiment)'),
        newest("experiment_uid", "its uid", "experiment_uid", 'experiment="$experiment"')]
    for name, label in (("job_a", "Job A"), ("job_b", "Job B")):
        variables += [variable(name, label, "label_values(liger_job_info, job_name)"),
                      newest(name + "_uid", "its uid", "job_uid", f'job_name="${name}"')]
    both = 'kernels=~"LIGER|BASELINE"'
    bars = {"options": {"valueMode": "color"}}
    return dashboard(
        "liger-compare", "Liger: Compare", "The fused kernels against their unfused twins, by experiment or by any two "
        "jobs. Speeds, memory and step times are of jobs that succeeded within the range, or were taken within it from an "
        "earlier experiment.", variables, [
            row("By experiment"),
            panel("bargauge", "Tokens a second", TOKENS, timed + "averaged over jobs that succeeded.",
                  now(by("avg", "kernels, point", speed, both), "{{kernels}} {{point}}"), **bars),
            panel("stat", "Tokens a second, LIGER / BASELINE", "none", "Above 1: the fused kernels are faster.",
                  now(ratio("point", speed), "{{point}}")),
            panel("bargauge", "Peak memory", "bytes", "The highest of the jobs that succeeded. By kind: rss on a CPU, allocated and "
                  "reserved on a GPU.", now(by("max", "kernels, point, kind", memory, both),
                                            "{{kernels}} {{point}} {{kind}}"), **bars),
            panel("stat", "Peak memory, LIGER / BASELINE", "none", "Below 1: the fused kernels need less.",
                  now(ratio("point, kind", memory), "{{point}} {{kind}}")),
            panel("bargauge", "Step time", "s", "Mean of the logged steps, the first too, averaged over jobs that succeeded.",
                  now(by("avg", "kernels, point", "liger_job:step_seconds:succeeded", both),
                      "{{kernels}} {{point}}"), **bars),
            panel("bargauge", "How the jobs ended", "short", "An out-of-memory is a result, not a failure of the "
                  "experiment; such a job has no part in the averages.",
                  now('count by (kernels, point, end) (label_join(max_over_time(liger_job:state:info{' + group +
                      ', state=~"SUCCEEDED|FAILED|CANCELLED"}[$__range]), "end", " ", "state", "failure"))',
                      "{{kernels}} {{point}} {{end}}"), **bars),
            panel("timeseries", "Loss", "none", "Both settings should lie on each other. " + where_taken,
                  query(of_experiment("liger_job:loss:info"), "{{kernels}} {{job_name}}")),
            panel("timeseries", "Tokens a second over time", TOKENS, "Of the last logged step. " + where_taken,
                  query(of_experiment("liger_job:tokens_per_second:info"), "{{kernels}} {{job_name}}")),
            panel("table", "Jobs", "short", "Of the experiment, within the range.",
                  rows("max by (experiment, job_name, kernels, point, model, dataset, trainer) "
                       f"({last('liger_job:state:info', resolved)})"), width=24),
            row("Two jobs"),
            panel("bargauge", "Tokens a second of A and B", TOKENS, timed + "once it has succeeded.",
                  now(f"max by (job_name, kernels) ({last(speed, pair)})", "{{job_name}} {{kernels}}"),
                  width=8, **bars),
            panel("stat", "Tokens a second, A / B", "none", "Above 1: job A is faster.",
                  now(f"max({last(speed, a)}) / max({last(speed, b)})", "$job_a / $job_b"), width=4),
            panel("bargauge", "Peak memory of A and B", "bytes", "By kind, once a job has succeeded.",
                  now(f"max by (job_name, kernels, kind) ({last(memory, pair)})", "{{job_name}} {{kernels}} {{kind}}"),
                  width=8, **bars),
            panel("stat", "Peak memory, A / B", "none", "Below 1: job A needs less.",
                  now(f"max by (kind) ({last(memory, a)}) / max by (kind) ({last(memory, b)})", "{{kind}}"), width=4),
            panel("timeseries", "Loss of A and B", "none", "Training loss of the last logged step.",
                  query(f"liger_job:loss:info{{{pair}}}", "{{job_name}} {{kernels}}")),
            panel("timeseries", "Tokens a second of A and B over time", TOKENS, "Of the last logged step.",
                  query(f"liger_job:tokens_per_second:info{{{pair}}}", "{{job_name}} {{kernels}}")),
            panel("table", "What A and B are", "short", "They compare kernels only if nothing else differs.",
                  rows("max by (job_name, kernels, batch_size, model, dataset, trainer, experiment) "
                       f"(last_over_time(liger_job_info{{{pair}, kernels!=\"UNSPECIFIED\"}}[$__range]))"), width=24),
        ])


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    for make in (fleet, queue, job, compare):
        text = json.dumps(make(), indent=1) + "\n"
        path = OUT / f"{make.__name__}.json"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        if not check:
            path.write_text(text)
    if stale:
        sys.exit(f"{', '.join(stale)} of {OUT} is not what tools/dashboards.py makes: run it")


if __name__ == "__main__":
    main()
