"""Steps as pods: dagster-k8s renders and starts them as it would in a cluster; only the cluster's API is a stand-in.

The stand-in checks each job against Kubernetes' own schema, then runs the command of its container here, as a node would. The
database is a real PostgreSQL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.executor.init import InitExecutorContext

from benchmarks.postgres import own_postgres
from dlc_assets.executor_kinds.kubernetes import executor
from dlc_assets.executors import gpu_op_tags, lab_executor
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.partitions import MODEL, SESSION, add_keys
from dlc_assets.resources.instance import set_gpu_pool
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import FIRST, SESSIONS, as_if_trained

kubernetes_validate = pytest.importorskip("kubernetes_validate")
pytest.importorskip("dagster_k8s")

IMAGE = "registry.example.org/dlc-assets:1"
SETTINGS = """
executor:
  kind: kubernetes
  kubernetes:
    gpus: 3
    image: %s
    gpu: {memory: 24Gi, resource: nvidia.com/mig-1g.10gb, node_selector: {gpu: a100}, tolerations: [{key: nvidia.com/gpu}]}
    cpu: {cpu: 500m}
"""
_LAUNCHER = """
run_launcher:
  module: dagster_k8s
  class: K8sRunLauncher
  config:
    job_namespace: lab
    service_account_name: dagster
    instance_config_map: dagster-instance
    postgres_password_secret: dagster-postgresql-secret
    dagster_home: /opt/dagster/dagster_home
    load_incluster_config: false
    kubeconfig_file: %s
    resources: {requests: {cpu: "9"}, limits: {memory: 99Gi}}
    volumes: [{name: lab, persistentVolumeClaim: {claimName: dlc-assets-lab}}]
    volume_mounts: [{name: lab, mountPath: /lab}]
"""
_KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "none",
    "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "none", "user": {}}],
}


@dataclass
class Cluster:
    """A cluster of this machine alone: jobs are validated, kept, and run where `nodes` says so."""

    nodes: bool = True
    jobs: list[dict[str, Any]] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def create(self, body: Any, namespace: str) -> None:
        from kubernetes.client import ApiClient

        job = ApiClient().sanitize_for_serialization(body)
        kubernetes_validate.validate(job, "1.34", strict=True)
        assert namespace == "lab"
        self.jobs.append(job)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        stated = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        stated.pop("DAGSTER_HOME")  # there, a ConfigMap is mounted; here it is another folder
        command = [sys.executable, "-m", "dagster", *container["args"][1:]]
        assert container["args"][0] == "dagster"
        done = subprocess.run(command, env={**os.environ, **stated}, check=False, timeout=120) if self.nodes else None
        if done is None or done.returncode != 0:
            self.failed.add(job["metadata"]["name"])

    def status(self, job_name: str, namespace: str) -> Any:
        return SimpleNamespace(failed=1 if job_name in self.failed else 0)


@pytest.fixture(scope="module")
def database() -> Iterator[dict[str, str]]:
    with own_postgres() as server:
        yield server.environment


@pytest.fixture
def in_cluster(
    small_lab_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: dict[str, str]
) -> Iterator[tuple[Path, dg.DagsterInstance, Cluster]]:
    """A lab whose runs are executed in a cluster, its instance on PostgreSQL, and the cluster."""
    from dagster_k8s.client import DagsterKubernetesClient

    root, home = tmp_path / "lab", tmp_path / "instance"
    shutil.copytree(small_lab_files, root)
    with (root / "lab.yaml").open("a") as file:
        file.write(SETTINGS % IMAGE)
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(_KUBECONFIG))
    home.mkdir()
    of_lab = yaml.safe_load((Path(database["DAGSTER_HOME"]) / "dagster.yaml").read_text())
    of_cluster = yaml.safe_load(_LAUNCHER % (tmp_path / "kubeconfig"))
    (home / "dagster.yaml").write_text(yaml.safe_dump({**of_lab, **of_cluster}))
    use_lab(root, monkeypatch)
    for name, value in {**database, "DAGSTER_HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster()
    monkeypatch.setattr(
        DagsterKubernetesClient, "create_namespaced_job_with_retries", lambda _, **asked: cluster.create(**asked)
    )
    monkeypatch.setattr(DagsterKubernetesClient, "get_job_status", lambda _, **asked: cluster.status(**asked))
    with dg.DagsterInstance.get() as instance:
        add_keys(instance, SESSION, SESSIONS)
        add_keys(instance, MODEL, ["walker", "day2-walker"])
        yield root, instance, cluster


def run(instance: dg.DagsterInstance, job: str, partition: str) -> dg.DagsterRun:
    """Execute *job* in this process as the run's pod does: each step is a pod of its own."""
    repository = ReconstructableRepository.for_module("dlc_assets.definitions", "defs", str(Path.cwd()))
    with dg.execute_job(
        repository.get_reconstructable_job(job), instance, tags={"dagster/partition": partition}, raise_on_error=False
    ) as result:
        done = instance.get_run_by_id(result.run_id)
    assert done is not None
    return done


def resources(job: dict[str, Any]) -> dict[str, Any]:
    return job["spec"]["template"]["spec"]["containers"][0]["resources"]


def test_a_session_is_probed_in_pods_that_ask_for_what_the_lab_says(
    in_cluster: tuple[Path, dg.DagsterInstance, Cluster],
) -> None:
    root, instance, cluster = in_cluster
    done = run(instance, "record", FIRST)
    assert done.is_success
    assert open_lab_folder(root).layout.session_recordings(FIRST).exists()
    assert cluster.jobs
    for job in cluster.jobs:
        pod = job["spec"]["template"]["spec"]
        assert resources(job) == {"requests": {"cpu": "500m", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}
        assert pod["containers"][0]["image"] == IMAGE
        assert {"name": "lab", "mountPath": "/lab"} in pod["containers"][0]["volumeMounts"]
        assert "nodeSelector" not in pod


def test_a_step_on_a_gpu_asks_for_the_labs_kind_of_gpu_and_a_lost_pod_fails_it_with_the_reason(
    in_cluster: tuple[Path, dg.DagsterInstance, Cluster],
) -> None:
    root, instance, cluster = in_cluster
    as_if_trained(open_lab_folder(root))
    cluster.nodes = False
    done = run(instance, "evaluate", "walker")
    assert done.is_failure
    (job,) = cluster.jobs
    pod = job["spec"]["template"]["spec"]
    # the lab's kind of GPU alone: neither that of the graph's tags nor what the run's pod was given
    assert resources(job) == {
        "requests": {"cpu": "4", "memory": "24Gi"},
        "limits": {"memory": "24Gi", "nvidia.com/mig-1g.10gb": "1"},
    }
    assert pod["nodeSelector"] == {"gpu": "a100"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert {"name": "lab", "persistentVolumeClaim": {"claimName": "dlc-assets-lab"}} in pod["volumes"]
    (failure,) = (
        event.dagster_event.step_failure_data
        for event in instance.all_logs(done.run_id)
        if event.dagster_event is not None and event.dagster_event.is_step_failure
    )
    assert f"Discovered failed Kubernetes job {job['metadata']['name']}" in str(failure.error)


def test_the_pool_of_gpus_is_as_large_as_the_lab_says_of_its_cluster_and_follows_it(
    in_cluster: tuple[Path, dg.DagsterInstance, Cluster],
) -> None:
    root, instance, _ = in_cluster
    storage = instance.event_log_storage
    set_gpu_pool(instance, open_lab_folder(root))
    assert storage.get_concurrency_info("gpu").limit == 3
    text = (root / "lab.yaml").read_text()
    (root / "lab.yaml").write_text(text.replace("gpus: 3", "gpus: 5"))
    shutil.rmtree(os.environ["DAGSTER_HOME"])  # as when the pod of the last command is gone
    set_gpu_pool(instance, open_lab_folder(root))
    assert storage.get_concurrency_info("gpu").limit == 5


def test_what_the_graph_says_without_a_lab_is_a_valid_tag_of_dagster_k8s() -> None:
    from dagster_k8s.job import get_user_defined_k8s_config

    @dg.op(tags=gpu_op_tags())
    def step() -> None: ...

    said = get_user_defined_k8s_config(step.tags)
    assert said.container_config["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}


def test_without_postgresql_or_outside_a_cluster_a_run_is_refused_with_what_to_do(
    small: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: dict[str, str]
) -> None:
    job = ReconstructableRepository.for_module("dlc_assets.definitions", "defs", str(Path.cwd()))
    asked = InitExecutorContext(
        job=job.get_reconstructable_job("record"),
        executor_def=lab_executor,
        executor_config={},
        instance=small.instance,
    )
    with pytest.raises(EnvironmentProblem, match=r"needs Dagster's records in PostgreSQL.*postgresql\.md"):
        executor(small.lab, asked)
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance, pytest.raises(EnvironmentProblem, match="expected K8sRunLauncher"):
        executor(small.lab, asked._replace(instance=instance))
