"""The files of deploy/: what Kubernetes, Helm's chart, the builder of images and systemd would say of them, without any of these."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

_ROOT = Path(__file__).resolve().parent.parent.parent
_KUBERNETES = _ROOT / "deploy" / "kubernetes"
_DOCKERFILE = _KUBERNETES / "Dockerfile"


def values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((_KUBERNETES / "values.yaml").read_text())
    return loaded


def snake(value: Any) -> Any:
    """Return what the chart's templates make of camelCase keys."""
    if isinstance(value, dict):
        return {re.sub(r"([A-Z])", lambda m: f"_{m[1].lower()}", key): snake(each) for key, each in value.items()}
    return value


def instructions() -> list[list[str]]:
    joined = re.sub(r"\\\n\s*", " ", _DOCKERFILE.read_text())
    return [line.split() for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", ["storage.yaml", "set-up.yaml"])
def test_manifests_are_what_kubernetes_takes(name: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    manifest = yaml.safe_load((_KUBERNETES / name).read_text())
    for version in ("1.28", "1.34"):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_pod_of_the_values_is_one_that_kubernetes_takes() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    (deployment,) = values()["dagster-user-deployments"]["deployments"]
    web = values()["dagsterWebserver"]
    for of in (deployment, web):
        container = {
            "name": "c",
            "image": "i",
            "volumeMounts": of["volumeMounts"],
            "resources": of.get("resources", {}),
        }
        container |= {
            "envFrom": [{"secretRef": secret} for secret in of.get("envSecrets", [])],
            "env": of.get("env", []),
        }
        spec = {"containers": [container], "volumes": of["volumes"], "securityContext": of["podSecurityContext"]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
        kubernetes_validate.validate(pod, "1.34", strict=True)


def test_the_run_launcher_of_the_values_is_one_that_dagster_k8s_takes() -> None:
    dagster_k8s = pytest.importorskip("dagster_k8s")
    from dagster import Field
    from dagster._config import process_config

    asked = values()["runLauncher"]
    assert asked["type"] == "K8sRunLauncher"
    said = asked["config"]["k8sRunLauncher"]
    config = {snake({key: 0}).popitem()[0]: value for key, value in said.items() if key != "runK8sConfig"}
    config["run_k8s_config"] = {snake({key: 0}).popitem()[0]: value for key, value in said["runK8sConfig"].items()}
    # what the chart itself adds
    config |= {"service_account_name": "dagster", "instance_config_map": "dagster-instance"}
    config |= {
        "postgres_password_secret": values()["global"]["postgresqlSecretName"],
        "dagster_home": values()["global"]["dagsterHome"],
    }
    processed = process_config({"c": Field(dagster_k8s.K8sRunLauncher.config_type())}, {"c": config})
    assert processed.success, [error.message for error in processed.errors or []]


def test_the_instance_of_the_values_is_one_that_dagster_takes_and_monitors_as_a_workstation_does() -> None:
    from dagster import Field
    from dagster._config import process_config
    from dagster._core.instance.config import dagster_instance_config_schema

    daemon = values()["dagsterDaemon"]
    concurrency = {key: snake(each) for key, each in values()["concurrency"].items() if key != "enabled"}
    manager = values()["computeLogManager"]["config"]["customComputeLogManager"]
    instance = {
        "run_monitoring": snake(daemon["runMonitoring"]),
        "run_retries": snake(daemon["runRetries"]),
        "concurrency": concurrency,
        "compute_logs": manager,
        "telemetry": values()["telemetry"],
    }
    processed = process_config({"c": Field(dagster_instance_config_schema())}, {"c": instance})
    assert processed.success, [error.message for error in processed.errors or []]
    local = yaml.safe_load((_ROOT / "dagster.yaml").read_text())
    for block in ("run_retries",):
        assert instance[block] == local[block]
    assert concurrency["pools"] == local["concurrency"]["pools"]


def test_the_image_the_volume_and_the_owner_are_the_same_everywhere() -> None:
    (deployment,) = values()["dagster-user-deployments"]["deployments"]
    pod = yaml.safe_load((_KUBERNETES / "set-up.yaml").read_text())["spec"]["template"]["spec"]
    image = f"{deployment['image']['repository']}:{deployment['image']['tag']}"
    assert pod["containers"][0]["image"] == image
    assert f"-t {image}" in _DOCKERFILE.read_text()
    assert deployment["image"]["tag"] != "latest"
    claim = yaml.safe_load((_KUBERNETES / "storage.yaml").read_text())
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    claimed = {
        volume["persistentVolumeClaim"]["claimName"]
        for each in (deployment, values()["dagsterWebserver"], pod)
        for volume in each["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claimed == {claim["metadata"]["name"]}
    owner = values()["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["podSpecConfig"]["securityContext"]
    assert owner == deployment["podSecurityContext"] == values()["dagsterWebserver"]["podSecurityContext"]
    assert ["USER", f"{owner['runAsUser']}:{owner['runAsGroup']}"] in instructions()


def test_no_secret_stands_in_the_values() -> None:
    text = (_KUBERNETES / "values.yaml").read_text()
    assert "postgresqlPassword" not in text
    assert values()["generatePostgresqlPasswordSecret"] is False


def test_the_image_is_built_from_files_that_are_there_and_that_the_builder_is_sent() -> None:
    sent = {
        line[1:] for line in (_KUBERNETES / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {source for words in instructions() if words[0] == "COPY" for source in words[1:-1]}
    assert copied == sent
    for source in copied:
        assert (_ROOT / source).exists(), source
    stated = re.findall(r"share/dlc_assets =\n((?:    \S+\n)+)", (_ROOT / "setup.cfg").read_text())
    assert set(stated[0].split()) <= copied


def test_the_image_has_the_locked_packages_and_dagster_k8s_among_them() -> None:
    pip = [words for words in instructions() if words[0] == "RUN" and "pip" in words]
    assert next(words[1:] for words in pip) == ["python", "-m", "pip", "install", "--requirement", "requirements.lock"]
    assert all("--no-deps" in words or "requirements.lock" in words for words in pip)
    lock = (_ROOT / "requirements.lock").read_text()
    for package in ("dagster-k8s==", "dagster-postgres==", "torch==", "av=="):
        assert re.search(rf"(?m)^{package}", lock), package
    base = next(words[1] for words in instructions() if words[0] == "FROM")
    assert base.startswith("python:3.11")


def test_the_dockerfile_is_linted() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (the extra `dev` has it for Linux)")
    done = subprocess.run([hadolint, str(_DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
