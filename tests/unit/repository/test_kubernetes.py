"""The Kubernetes manifests of deploy/: the API server takes them, and what they name is in the product and its image."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no types
import pytest
import yaml
from aiohttp import web

from daemon import __version__, config
from daemon.config import Config
from daemon.web import app
from eventstore.domain_events.events import SHARDS
from tests.support.faults import prometheus

DEPLOY = Path(__file__).parents[3] / "deploy"
TEXT = (DEPLOY / "kubernetes.yaml").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
MANIFESTS: dict[str, dict[str, Any]] = {each["kind"]: each for each in yaml.safe_load_all(TEXT)}
POD = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
LABELS = {"app.kubernetes.io/name": "hookledger"}
MOUNTS = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
VARIABLES = {each["name"]: each["value"] for each in CONTAINER["env"]}

# The first release that the head of the file names, and one of the newest.
RELEASES = ("1.30", "1.37")
SECRETS = {
    "admin_token": "x" * 32,
    "database_url": "postgresql://hookledger:secret@postgres.example.com/hookledger",
    "master_key": base64.b64encode(bytes(32)).decode(),
}


@pytest.fixture
def loaded(tmp_path: Path) -> Config:
    """The configuration of a pod: the ConfigMap and the Secret as files, the variables of image and manifest."""
    for name, content in MANIFESTS["ConfigMap"]["data"].items():
        (tmp_path / name).write_text(content)
    for name in files_of_the_secret():
        (tmp_path / name).write_text(SECRETS[name])
    given = image_variables() | {
        name: str(tmp_path / Path(value).name) if value.startswith("/") else value for name, value in VARIABLES.items()
    }
    return config.load(Path(given["HOOKLEDGER_CONFIG"]), given)


def files_of_the_secret() -> set[str]:
    """What the command at the head of the file makes a secret of."""
    return set(re.findall(r"--from-file=secrets/(\w+)", TEXT))


def image_variables() -> dict[str, str]:
    return dict(re.findall(r"(HOOKLEDGER_\w+)=(\S+)", DOCKERFILE))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", MANIFESTS)
def test_each_manifest_is_what_the_schema_of_kubernetes_says(kind: str, release: str) -> None:
    assert kubernetes_validate.validate(MANIFESTS[kind], release, strict=True) == release


def test_the_schema_would_find_a_word_that_kubernetes_does_not_know() -> None:
    wrong = yaml.safe_load(TEXT.replace("readOnlyRootFilesystem", "readOnlyRootFileSystem").split("\n---\n")[2])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


def test_the_configuration_of_a_pod_is_in_order(loaded: Config) -> None:
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert loaded.server.ops_listen is not None
    assert ports == {"http": loaded.server.listen.port, "ops": loaded.server.ops_listen.port}
    assert {loaded.server.listen.host, loaded.server.ops_listen.host} == {"0.0.0.0"}
    assert loaded.server.admin_token is not None
    assert loaded.database.url is not None
    assert loaded.signing.master_keys


def test_each_secret_is_a_file_of_the_mounted_secret() -> None:
    folder = MOUNTS["secrets"]
    paths = {value for name, value in VARIABLES.items() if name.endswith("_FILE")}
    assert paths == {f"{folder}/{name}" for name in files_of_the_secret()}
    assert not re.search(r"^\s*kind: Secret$", TEXT, re.MULTILINE)  # applying the file again must not replace it


def test_the_configuration_file_is_where_the_variable_says() -> None:
    (name,) = MANIFESTS["ConfigMap"]["data"]
    assert VARIABLES["HOOKLEDGER_CONFIG"] == f"{MOUNTS['config']}/{name}"
    assert (DEPLOY / name).exists()


def test_every_volume_is_mounted_and_every_mount_is_a_volume() -> None:
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert set(volumes) == set(MOUNTS)
    assert volumes["config"]["configMap"]["name"] == MANIFESTS["ConfigMap"]["metadata"]["name"]
    secret = re.search(r"kubectl create secret generic (\S+)", TEXT)
    assert secret is not None
    assert volumes["secrets"]["secret"]["secretName"] == secret[1]
    # The group of the pod may read what is mounted for it, and nobody else.
    assert volumes["secrets"]["secret"]["defaultMode"] == 0o440


def test_the_pod_is_the_image() -> None:
    assert CONTAINER["image"] == f"hookledger:{__version__}"
    assert f"useradd --system --uid {POD['securityContext']['runAsUser']} " in DOCKERFILE
    assert MOUNTS["state"] in re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert image_variables()["HOOKLEDGER_DATABASE__DATA_DIR"] == MOUNTS["state"]
    assert 'ENTRYPOINT ["hookledger"]' in DOCKERFILE
    assert CONTAINER["args"] == ["run"]
    assert CONTAINER["ports"][0]["containerPort"] == int(re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)[0])


def test_a_probe_asks_for_a_path_and_a_port_that_there_are() -> None:
    ops = web.Application()
    app._add_ops(ops)
    paths = {resource.canonical for resource in ops.router.resources()}
    asked = {kind: CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {each["path"] for each in asked.values()} <= paths
    assert asked["readiness"]["path"] == "/readyz"
    # What PostgreSQL does must restart no pod.
    assert asked["liveness"]["path"] == asked["startup"]["path"] == "/healthz"
    assert {each["port"] for each in asked.values()} <= {port["name"] for port in CONTAINER["ports"]}


def test_a_pod_has_as_long_to_drain_as_under_systemd_and_compose(loaded: Config) -> None:
    (unit,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "hookledger.service").read_text(), re.MULTILINE)
    (compose,) = re.findall(r"stop_grace_period: (\d+)s", (DEPLOY / "compose.yaml").read_text())
    drain = POD["terminationGracePeriodSeconds"] - CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain == int(unit) == int(compose)
    assert drain > loaded.delivery.timeout_seconds + 10


def test_a_pod_may_do_nothing_but_run() -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not POD["automountServiceAccountToken"]
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_everything_is_about_the_pods_of_the_deployment() -> None:
    assert MANIFESTS["Deployment"]["spec"]["template"]["metadata"]["labels"] == LABELS
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert MANIFESTS[kind]["spec"]["selector"] == {"matchLabels": LABELS}
    service = MANIFESTS["Service"]["spec"]
    assert service["selector"] == LABELS
    assert {port["targetPort"] for port in service["ports"]} == {"http"}
    scaled = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", MANIFESTS["Deployment"]["metadata"]["name"])
    assert POD["serviceAccountName"] == MANIFESTS["ServiceAccount"]["metadata"]["name"]


def test_pods_are_added_by_a_lag_that_is_exposed_and_not_beyond_the_shards() -> None:
    spec = MANIFESTS["HorizontalPodAutoscaler"]["spec"]
    (metric,) = [each["pods"]["metric"]["name"] for each in spec["metrics"] if each["type"] == "Pods"]
    assert metric in prometheus.exposed()
    assert f"'{metric}{{" in TEXT  # the adapter's rule serves the same
    assert 1 < spec["minReplicas"] <= spec["maxReplicas"] <= SHARDS
    assert "replicas" not in MANIFESTS["Deployment"]["spec"]  # else each apply would undo what the autoscaler did
