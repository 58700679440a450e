"""What manifests of deploy/kubernetes must keep to, beyond the schemas of Kubernetes. Each function takes the objects
of one rendering and gives the problems that it finds, as text."""
import itertools

SYSCTL = "net.ipv4.ip_local_port_range"
RESTRICTED_VOLUMES = {"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
                      "secret"}
SHIP_TIMEOUT = 30  # default of liger-worker --ship-timeout, in seconds
RANK_PORTS = "29500-29999"  # default of liger-worker --rank-ports: one of them for the ranks of a job to meet


def of_kind(objects, *kinds):
    return [o for o in objects if o["kind"] in kinds]


def name(obj):
    return f"{obj['kind']}/{obj['metadata']['name']}"


def pods(objects):
    """(owner, pod template) of everything that makes pods."""
    return [(o, o["spec"]["template"]) for o in of_kind(objects, "StatefulSet", "DaemonSet", "Deployment", "Job")]


def containers(template):
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


def labels_match(selector, labels):
    """Of a LabelSelector with matchLabels and matchExpressions of operator In."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return all(labels.get(k) == v for k, v in selector.get("matchLabels", {}).items())


def flag(container, wanted):
    for arg in container.get("args", []):
        if arg.startswith(f"--{wanted}="):
            return arg.split("=", 1)[1]
    return None


def pod_security(objects):
    """Pod Security Standards, level restricted, and what we ask beyond it."""
    found = []
    for owner, template in pods(objects):
        spec, context = template["spec"], template["spec"].get("securityContext", {})
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if spec.get(key):
                found.append(f"{name(owner)}: {key}")
        if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
            found.append(f"{name(owner)}: may run as root")
        if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            found.append(f"{name(owner)}: no seccomp profile")
        if spec.get("automountServiceAccountToken") is not False:
            found.append(f"{name(owner)}: a token of the API is mounted")
        for sysctl in context.get("sysctls", []):
            if sysctl["name"] != SYSCTL:
                found.append(f"{name(owner)}: sysctl {sysctl['name']}")
        for volume in spec.get("volumes", []):
            if set(volume) - {"name"} - RESTRICTED_VOLUMES:
                found.append(f"{name(owner)}: volume {volume['name']} is {sorted(set(volume) - {'name'})}")
        for container in containers(template):
            own = container.get("securityContext", {})
            where = f"{name(owner)}: container {container['name']}"
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                found.append(f"{where}: privileges")
            if own.get("capabilities", {}).get("drop") != ["ALL"] or own.get("capabilities", {}).get("add"):
                found.append(f"{where}: capabilities")
            if own.get("readOnlyRootFilesystem") is not True:
                found.append(f"{where}: writable root")
            if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
                found.append(f"{where}: runs as root")
            if any("hostPort" in port for port in container.get("ports", [])):
                found.append(f"{where}: host port")
    return found


def images(objects, version):
    return [f"{name(owner)}: image {container['image']} is not pinned to {version}"
            for owner, template in pods(objects) for container in containers(template)
            if container["image"].rpartition(":")[2] != version or ":" not in container["image"]]


def resources(objects):
    found = []
    for owner, template in pods(objects):
        for container in containers(template):
            for part, resource in itertools.product(("requests", "limits"), ("cpu", "memory")):
                if resource not in container.get("resources", {}).get(part, {}):
                    found.append(f"{name(owner)}: container {container['name']} has no {part}.{resource}")
    return found


def probes(objects):
    """Liveness asks nothing of the store or the coordinator, readiness does."""
    found = []
    for owner, template in pods(of_kind(objects, "StatefulSet")):
        for container in template["spec"]["containers"]:
            live, ready = container.get("livenessProbe", {}), container.get("readinessProbe", {})
            if not container.get("startupProbe"):
                found.append(f"{name(owner)}: no startup probe")
            asks_ready = [("readiness" == p["grpc"].get("service")) if "grpc" in p else
                          (p["httpGet"]["path"] == "/readyz") if "httpGet" in p else
                          ("--ready" in p["exec"]["command"]) if "exec" in p else None for p in (live, ready)]
            if asks_ready != [False, True]:
                found.append(f"{name(owner)}: liveness and readiness ask {asks_ready}")
    return found


def grace(objects):
    """Time between the eviction and SIGKILL is enough for all that happens in it."""
    found = []
    for owner, template in pods(of_kind(objects, "StatefulSet")):
        for container in template["spec"]["containers"]:
            stop = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            needed = stop + float(flag(container, "stop-grace") or 0) + SHIP_TIMEOUT * (container["name"] == "worker")
            if not stop or template["spec"]["terminationGracePeriodSeconds"] <= needed:
                found.append(f"{name(owner)}: {template['spec']['terminationGracePeriodSeconds']} s of grace, "
                             f"{needed} s needed (preStop {stop} s)")
    return found


def rules_of(objects, labels, direction):
    """The rules, "ingress" or "egress", of the policies on a pod with these labels."""
    return [rule for policy in of_kind(objects, "NetworkPolicy")
            if labels_match(policy["spec"]["podSelector"], labels) for rule in policy["spec"].get(direction, [])]


def ports_of(rules, peers):
    """Ports, by name or as (first, last), that rules with the key `peers` ("from" or "to") allow."""
    ports = []
    for rule in rules:
        if not rule.get(peers) or not rule.get("ports"):
            ports.append("anything")
        for port in rule.get("ports", []):
            ports.append((port["port"], port["endPort"]) if "endPort" in port else port["port"])
    return ports


def to_itself(rules, labels):
    """Those whose peers are the pods with these labels, of this namespace."""
    return [rule for rule in rules
            if any(set(peer) == {"podSelector"} and labels_match(peer["podSelector"], labels) for peer in rule["to"])]


def rank_ranges(template):
    """Of a worker's pod, as (first, last): where ranks meet, and where the kernel has them listen."""
    ranges = {tuple(map(int, s["value"].split())) for s in template["spec"]["securityContext"].get("sysctls", [])}
    for container in template["spec"]["containers"]:
        if container["name"] == "worker":
            first, last = (flag(container, "rank-ports") or RANK_PORTS).split("-")
            ranges.add((int(first), int(last)))
    return ranges


def network(objects):
    """Everything is denied but what is named; every port of a pod is named; nothing is named that no pod has."""
    found = []
    policies = of_kind(objects, "NetworkPolicy")
    if not any(p["spec"]["podSelector"] == {} and set(p["spec"]["policyTypes"]) == {"Ingress", "Egress"} and
               not p["spec"].get("ingress") and not p["spec"].get("egress") for p in policies):
        found.append("nothing is denied by default")
    monitored = bool(of_kind(objects, "ServiceMonitor"))
    for owner, template in pods(of_kind(objects, "StatefulSet")):
        labels = template["metadata"]["labels"]
        have = {port["name"] for c in template["spec"]["containers"] for port in c.get("ports", [])}
        ranges = rank_ranges(template)
        wanted = (have | ranges) - (set() if monitored else {"metrics"})  # nobody scrapes: nobody may connect
        allowed = set(ports_of(rules_of(objects, labels, "ingress"), "from"))
        if allowed != wanted:
            found.append(f"{name(owner)}: policies admit {allowed}, it has {wanted}")
        outward = rules_of(objects, labels, "egress")
        if "anything" in ports_of(outward, "to"):
            found.append(f"{name(owner)}: policies let out anything")
        elif (among := set(ports_of(to_itself(outward, labels), "to"))) != ranges:
            found.append(f"{name(owner)}: policies let its pods reach each other on {among}, they listen on {ranges}")
    for policy in policies:
        if not any(labels_match(policy["spec"]["podSelector"], t["metadata"]["labels"]) for _, t in pods(objects)):
            found.append(f"{name(policy)} selects no pod")
    return found


def references(objects):
    """Selectors select, ports exist, arguments and ports agree."""
    found = []
    templates = [t for _, t in pods(objects)]
    services = of_kind(objects, "Service")
    for service in services:
        chosen = [t for t in templates if labels_match({"matchLabels": service["spec"]["selector"]},
                                                       t["metadata"]["labels"])]
        ports = {p["name"] for t in chosen for c in t["spec"]["containers"] for p in c["ports"]}
        missing = {p["targetPort"] for p in service["spec"]["ports"]} - ports
        if missing or not chosen:
            found.append(f"{name(service)}: no pod with ports {missing}")
    for budget in of_kind(objects, "PodDisruptionBudget"):
        if not any(labels_match(budget["spec"]["selector"], t["metadata"]["labels"]) for t in templates):
            found.append(f"{name(budget)} selects no pod")
    for monitor in of_kind(objects, "ServiceMonitor"):
        chosen = [s for s in services if labels_match(monitor["spec"]["selector"], s["metadata"]["labels"])]
        wanted = {e["port"] for e in monitor["spec"]["endpoints"]}
        if len(chosen) != 1 or not wanted <= {p["name"] for p in chosen[0]["spec"]["ports"]}:
            found.append(f"{name(monitor)} selects {[name(s) for s in chosen]}")
    for owner, template in pods(of_kind(objects, "StatefulSet")):
        if owner["spec"]["serviceName"] not in {s["metadata"]["name"] for s in services}:
            found.append(f"{name(owner)}: no service {owner['spec']['serviceName']}")
        volumes = {v["name"] for v in template["spec"].get("volumes", []) + [
            {"name": c["metadata"]["name"]} for c in owner["spec"].get("volumeClaimTemplates", [])]}
        for container in template["spec"]["containers"]:
            listens = {int(value.rpartition(":")[2]) for option in ("listen", "worker-listen", "metrics-listen")
                       if (value := flag(container, option))}
            if listens != {p["containerPort"] for p in container["ports"]}:
                found.append(f"{name(owner)}: listens on {listens}")
            if not {m["name"] for m in container["volumeMounts"]} <= volumes:
                found.append(f"{name(owner)}: a mount without a volume")
    return found


def all_of(objects, version):
    return (pod_security(objects) + images(objects, version) + resources(objects) + probes(objects) + grace(objects) +
            network(objects) + references(objects))
