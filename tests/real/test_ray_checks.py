"""ray.* and vllm.serve-app on a real Ray 2.60 of three hosts: as it should be, and with one thing wrong at a time."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reallab import machine
from reallab.cluster import NAMES, Lab
from reallab.firewall import reachable
from reallab.host import Host, wait_until
from reallab.operator import Operator, Outcome
from reallab.ray_cluster import Clusters, RayCluster

pytestmark = pytest.mark.real

RAY = ("ray.head-started", "ray.workers-joined", "ray.dashboard", "ray.resources")
APP = "vllm.serve-app"
TOKEN = secrets.token_hex(24)
DASHBOARD = "endpoint:http://10.78.0.11:8265"
LAB = "cluster:lab"
IN_THE_LAB = {
    # Ray is told of 3 CPUs and 4 GB on hosts that look like GPU servers, and has no Prometheus.
    "ray.resources.cpu_tolerance_pct": 100,
    "ray.resources.mem_ratio_min": 0,
    "ray.dashboard.metrics_embed": False,
    "ray.head-started.settle_min": 0,
}
SICK = "/opt/ray/sick_app.py"
_PUT = """
import json, sys, urllib.request
body = json.dumps({"applications": [json.loads(sys.argv[1])] if sys.argv[1] else []}).encode()
url = "http://127.0.0.1:8265/api/serve/applications/"
request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="PUT")
urllib.request.urlopen(request, timeout=30).read()
"""
_GET = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8265/api/serve/applications/", timeout=30).read().decode())
"""


@pytest.fixture(scope="module")
def clusters(lab: Lab) -> Iterator[Clusters]:
    made = Clusters(lab)
    yield made
    made.stop()


@pytest.fixture
def cluster(clusters: Clusters) -> RayCluster:
    return clusters.get()


def inventory(lab: Lab, cluster: RayCluster, **ray: object) -> Path:
    return lab.inventory(
        "ray-checks",
        ray={"dashboard_access": "tunnel", **ray},
        runtime={"python": cluster.python},
        thresholds=IN_THE_LAB,
    )


def run(operator: Operator, lab: Lab, cluster: RayCluster, *checks: str, **ray: object) -> Outcome:
    return operator.run(*(checks or (*RAY, APP)), inventory=inventory(lab, cluster, **ray))


@contextmanager
def held_by_a_unit(cluster: RayCluster) -> Iterator[None]:
    """The head's gcs_server in a control group of the name that systemd gives to a unit."""
    pid = next(pid for pid, line in cluster.head.processes().items() if "/gcs/gcs_server " in line)
    root = next(
        path for path in (Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup")) if (path / "cgroup.procs").exists()
    )
    group = root / "system.slice" / "ray-head.service"
    made = [path for path in (group.parent, group) if not path.exists()]
    group.mkdir(parents=True, exist_ok=True)
    lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    before = root / next(place for _, name, place in lines if name in ("name=systemd", "")).lstrip("/")
    (group / "cgroup.procs").write_text(str(pid))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(pid))
        for path in reversed(made):
            path.rmdir()


def test_all_is_well(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    with held_by_a_unit(cluster):
        found = run(operator, lab, cluster)
    said = {key: verdict for key, verdict in found.said().items() if key[0] != "ray.head-started"}
    assert said == {
        **{("ray.workers-joined", f"host:{name}"): "pass" for name in NAMES},
        ("ray.workers-joined", LAB): "pass",
        ("ray.dashboard", DASHBOARD): "pass",
        **{("ray.resources", f"host:{name}"): "pass" for name in NAMES},
        ("ray.resources", LAB): "pass",
        (APP, LAB): "pass",
    }, "\n".join(f.words for f in found if f.verdict != "pass")
    # It listens on all addresses and asks nobody for a token.
    head = found.of("ray.head-started", "gpu-01")
    assert head.verdict == "warn" and "asks for no token" in head.words and "by hand" not in head.words
    assert "held by ray-head.service" in head.words
    assert "Ray: GPU 8" in found.of("ray.resources", "gpu-02").words
    assert "s3cr3t-of-the-lab" not in json.dumps(found.report)


def test_started_by_hand(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    head = run(operator, lab, cluster, "ray.head-started").of("ray.head-started", "gpu-01")
    assert head.verdict == "warn" and "it does not survive a reboot" in head.words


def test_open_to_the_outside(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    """The firewall lets the controller in: it gets to the dashboard past the tunnel."""
    with reachable(cluster.head, 8265):
        board = run(operator, lab, cluster, "ray.dashboard").of("ray.dashboard", DASHBOARD)
        assert board.verdict == "warn" and "without a tunnel or a token" in board.words
        straight = run(operator, lab, cluster, "ray.dashboard", dashboard_access="direct")
        assert straight.of("ray.dashboard", DASHBOARD).verdict == "warn"


def test_an_address_that_operators_do_not_get_to(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    """`direct`, but the firewall is shut: the dashboard fails, and Ray is still judged, through the head."""
    found = run(operator, lab, cluster, dashboard_access="direct")
    board = found.of("ray.dashboard", DASHBOARD)
    assert board.verdict == "fail" and "does not answer from here" in board.words
    assert {f.verdict for f in found if f.check in ("ray.workers-joined", "ray.resources")} == {"pass"}


def test_gpus_that_do_not_exist(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    """A worker that is told to have 16 GPUs where NVML finds 8."""
    host = lab.hosts["gpu-03"]
    _leave(cluster, host)
    cluster.join(host, "--num-gpus=16")
    wait_until(lambda: cluster.alive() == set(NAMES), "gpu-03 to join again", 60.0)
    found = run(operator, lab, cluster, "ray.head-started", "ray.resources", "ray.workers-joined")
    odd = found.of("ray.resources", "gpu-03")
    assert odd.verdict == "fail" and "Ray counts 16 GPUs, NVML finds 8: declared by --num-gpus?" in odd.words
    assert "32 GPUs in all, the inventory has 24" in found.of("ray.resources", LAB).words
    assert found.of("ray.resources", "gpu-02").verdict == "pass"
    # It left and came back within a day.
    assert found.of("ray.workers-joined", "gpu-03").verdict == "warn"
    _leave(cluster, host)
    cluster.join(host)
    wait_until(lambda: cluster.alive() == set(NAMES), "gpu-03 to join as it should", 60.0)


def test_gpus_that_ray_does_not_see_go_away(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    """Ray counted them when it started; a GPU has fallen off since."""
    with lab.hosts["gpu-02"].changed(machine.NVML, lambda text: text + "count=7\n"):
        found = run(operator, lab, cluster, "ray.head-started", "ray.resources")
    odd = found.of("ray.resources", "gpu-02")
    assert odd.verdict == "fail" and "Ray counts 8 GPUs, NVML finds 7" in odd.words


def test_a_raylet_is_killed(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    """Ray believes in the node for 12 s more; its host shows at once that there is no raylet."""
    host = lab.hosts["gpu-03"]
    os.kill(cluster.raylet(host), signal.SIGKILL)
    found = run(operator, lab, cluster)
    gone = found.of("ray.workers-joined", "gpu-03")
    assert gone.verdict == "fail" and ("no raylet runs on the host" in gone.words or "is DEAD" in gone.words)
    assert found.of("ray.workers-joined", "gpu-02").verdict != "fail"
    app = found.of(APP, LAB)
    assert app.verdict == "fail", app.words
    wait_until(lambda: "gpu-03" not in cluster.alive(), "Ray to notice", 60.0)
    dead = run(operator, lab, cluster, "ray.head-started", "ray.workers-joined", "ray.resources")
    assert "is DEAD" in dead.of("ray.workers-joined", "gpu-03").words
    assert "16 GPUs in all, the inventory has 24" in dead.of("ray.resources", LAB).words
    _leave(cluster, host)
    cluster.join(host)
    wait_until(lambda: cluster.alive() == set(NAMES), "gpu-03 to join again", 60.0)


def _leave(cluster: RayCluster, host: Host) -> None:
    """End a worker's Ray, by process id, until Ray has noticed."""
    wait_until(lambda: not cluster._kill_all(host), f"Ray on {host.name} to end")
    wait_until(lambda: host.name not in cluster.alive(), f"Ray to miss {host.name}", 60.0)


def _serve(cluster: RayCluster) -> dict[str, object]:
    said = json.loads(cluster.head.run(cluster.python, "-c", _GET))
    found = said["applications"]
    assert isinstance(found, dict)
    return found


def _status(cluster: RayCluster, name: str) -> object:
    app = _serve(cluster).get(name)
    return app["status"] if isinstance(app, dict) else None


def _with_replicas(lab: Lab, cluster: RayCluster, count: int) -> Path:
    """Of the application `tiny` alone."""
    return lab.inventory(
        f"replicas-{count}",
        ray={"dashboard_access": "tunnel"},
        runtime={"python": cluster.python},
        serving={"mode": "ray-serve", "app_name": "tiny", "replicas": count},
        thresholds=IN_THE_LAB,
    )


def test_an_application_that_fails_to_deploy(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    wait_until(lambda: _status(cluster, "tiny") == "RUNNING", "the application to run", 60.0)
    bad = {"name": "bad", "import_path": "no_such_module:app", "route_prefix": "/bad",
           "runtime_env": {"env_vars": {"DEPLOY_SECRET": "d3ploy-secret"}}}  # fmt: skip
    cluster.head.run(cluster.python, "-c", _PUT, json.dumps(bad))
    try:
        wait_until(lambda: _status(cluster, "bad") == "DEPLOY_FAILED", "the deployment to fail", 90.0)
        # The proxy says that all is well all the while.
        assert "success" in cluster.head.run(
            cluster.python,
            "-c",
            "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/-/healthz').read())",
        )
        found = run(operator, lab, cluster, "ray.head-started", APP)
        app = found.of(APP, LAB)
        assert app.verdict == "fail" and "bad is DEPLOY_FAILED" in app.words
        assert "d3ploy-secret" not in json.dumps(found.report)
        good = operator.run("ray.head-started", APP, inventory=_with_replicas(lab, cluster, 3))
        assert good.of(APP, LAB).verdict in ("pass", "warn"), good.of(APP, LAB).words
        short = operator.run("ray.head-started", APP, inventory=_with_replicas(lab, cluster, 4))
        assert "3 replicas of Echo run, the inventory wants 4" in short.of(APP, LAB).words
        assert short.of(APP, LAB).verdict == "fail"
    finally:
        cluster.head.run(cluster.python, "-c", _PUT, "")
        wait_until(lambda: "bad" not in _serve(cluster), "the application to go", 60.0)


def test_a_replica_that_fails_its_health_checks(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    cluster.head.put(SICK, (Path(__file__).parent / "reallab" / "sick_app.py").read_text())
    cluster.head.run(*cluster.environment(), cluster.python, SICK, cluster.address, seconds=90.0)
    wait_until(lambda: _status(cluster, "sick") == "UNHEALTHY", "the replica to be found out", 60.0)
    app = run(operator, lab, cluster, "ray.head-started", APP).of(APP, LAB)
    assert app.verdict == "fail", app.words
    assert "sick is UNHEALTHY" in app.words or "sick/Patient is UNHEALTHY" in app.words or "of 1 replicas" in app.words


def test_a_dashboard_that_hangs(lab: Lab, operator: Operator, cluster: RayCluster) -> None:
    os.kill(cluster.dashboard(), signal.SIGSTOP)
    try:
        found = run(operator, lab, cluster)
    finally:
        os.kill(cluster.dashboard(), signal.SIGCONT)
    _judged_without(found)
    board = found.of("ray.dashboard", DASHBOARD)
    assert board.verdict == "fail" and "did not answer within 5 s" in board.words


def _judged_without(found: Outcome) -> None:
    head = found.of("ray.head-started", "gpu-01")
    assert head.verdict == "warn" and "judged by ray status and the processes alone" in head.words, head.words
    for check in ("ray.workers-joined", "ray.resources", APP):
        assert found.of(check, LAB).verdict == "unknown", check


@contextmanager
def without_dashboard(cluster: RayCluster) -> Iterator[None]:
    """Ray's head alone, started with its dashboard switched off."""
    head = cluster.head
    argv = cluster.command(
        *("start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false", "--port=6379"),
        *(
            f"--node-ip-address={head.address}",
            "--num-cpus=1",
            "--object-store-memory=100000000",
            "--temp-dir=/tmp/ray",
        ),
    )
    with cluster.log(head).open("ab") as log:
        started = subprocess.Popen(head.entered(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: ":6379 " in head.run("ss", "-Hltn"), "Ray's head to listen", 90.0)
        wait_until(lambda: "Active" in head.run(*cluster.command("status", "--address", cluster.address)), "Ray", 90.0)
        yield
    finally:
        wait_until(lambda: not cluster._kill_all(head), "Ray to end")
        started.wait()
        head.run("rm", "-rf", "/tmp/ray")


def test_no_dashboard(lab: Lab, operator: Operator, clusters: Clusters) -> None:
    cluster = clusters.get()
    clusters.stop()
    with without_dashboard(cluster):
        found = run(operator, lab, cluster)
    _judged_without(found)
    board = found.of("ray.dashboard", DASHBOARD)
    assert board.verdict == "fail" and "the tunnel leads nowhere" in board.words


def test_no_ray_at_all(lab: Lab, operator: Operator, clusters: Clusters) -> None:
    clusters.stop()
    found = operator.run(*RAY, APP, inventory=lab.inventory("no-ray", ray={"dashboard_access": "tunnel"}))
    head = found.of("ray.head-started", "gpu-01")
    assert head.verdict == "fail" and "nothing listens on 6379" in head.words
    for check in (*RAY[1:], APP):
        assert found.of(check, LAB).said == "unknown(blocked-by)", check
    without = operator.run(*RAY, inventory=lab.inventory("plain", serving={"mode": "vllm"}))
    assert {f.verdict for f in without} == {"not-applicable"}


def guarded(lab: Lab, cluster: RayCluster, token: str | None) -> Path:
    place = lab.folder / "ray-token"
    place.write_text(f"{token}\n")
    place.chmod(0o600)
    ray = {"dashboard_access": "tunnel"} | ({} if token is None else {"token_ref": "secrets.ray"})
    hosts = [{"name": "gpu-01", "group": "gpu", "roles": ["head"], "data_ip": "10.78.0.11"}]
    return lab.inventory(
        "guarded", ray=ray, secrets={"ray": f"file:{place}"}, hosts=hosts, runtime={"python": cluster.python},
        thresholds=IN_THE_LAB,
    )  # fmt: skip


@pytest.mark.parametrize("token", [None, "0" * 48], ids=["no-token", "wrong-token"])
def test_a_token_that_is_not_there(lab: Lab, operator: Operator, clusters: Clusters, token: str | None) -> None:
    cluster = clusters.get(TOKEN)
    found = operator.run(*RAY, inventory=guarded(lab, cluster, token))
    assert found.of("ray.head-started", "gpu-01").said == "unknown(no-credential)"
    assert {f.said for f in found if f.check in RAY[1:]} == {"unknown(blocked-by)"}
    alone = operator.run("ray.dashboard", inventory=guarded(lab, cluster, token))
    assert alone.of("ray.dashboard", DASHBOARD).said == "unknown(no-credential)"
    assert TOKEN not in json.dumps(found.report) + found.errors


def test_the_right_token(lab: Lab, operator: Operator, clusters: Clusters) -> None:
    cluster = clusters.get(TOKEN)
    with held_by_a_unit(cluster):
        found = operator.run(*RAY, inventory=guarded(lab, cluster, TOKEN))
    assert {f.verdict for f in found} == {"pass"}, "\n".join(f.words for f in found if f.verdict != "pass")
    assert TOKEN not in json.dumps(found.report) + found.errors
