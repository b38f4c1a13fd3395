"""flows/monitoring/: Prometheus asks every room, and alerts and dashboard name what the rooms' own code exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from finetuner.contract.wire import INDEX, SEARCH
from finetuner.exceptions import CorruptedArtifact, ResourceExhausted
from finetuner.executors.encoder.lane.metrics import LaneMetrics
from finetuner.executors.encoder.lane.served_models import ServedModels
from finetuner.executors.encoder.lane.settings import LaneSettings, ServedSettings
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.flow.failures import outcome
from finetuner.executors.indexer.executor import Indexer
from finetuner.executors.trainer.executor import Trainer
from finetuner.flow.settings import flow_file
from finetuner.flow.standalone import GATEWAY, METRICS_PORT, RoomOptions

FLOWS = flow_file().parent
MONITORING = FLOWS / "monitoring"
GRAFANA = MONITORING / "grafana"
UNIT_TESTS = Path(__file__).parent / "alerts.test.yml"
SERIES = re.compile(r"\b(finetuner_\w+|up)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPED = re.compile(r"\b(?:by|on|ignoring) \(([\w, ]+)\)")
DURATION = re.compile(r"(\d+[smhd])+")
OF_PROMQL = {
    "sum", "max", "min", "by", "on", "ignoring", "and", "or", "unless", "offset", "rate", "increase", "absent",
    "min_over_time", "max_over_time", "histogram_quantile",
}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


RULES = [rule for group in read(MONITORING / "alerts.yml")["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((GRAFANA / "dashboards" / "finetuner.json").read_text())
SCRAPE = read(MONITORING / "prometheus.yml")


def rooms() -> set[str]:
    return {GATEWAY, *(room["name"] for room in read(flow_file())["executors"])}


class Exported:
    """What a scrape of all rooms holds: labels by name, also where there is no sample yet, and samples.

    Args:
        registries: of the rooms.
    """

    def __init__(self, *registries: CollectorRegistry) -> None:
        self.labels: dict[str, set[str]] = {}
        self.samples: dict[str, list[dict[str, str]]] = {}
        for registry in registries:
            for collector, names in registry._collector_to_names.items():
                for name in names:
                    self.labels[name] = set(getattr(collector, "_labelnames", ())) | {"room", "instance", "job"}
            for family in registry.collect():
                for sample in family.samples:
                    self.samples.setdefault(sample.name, []).append(sample.labels)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exported]:
    """The rooms' registries, after one of each of what alerts are about."""
    gateway, lane = CollectorRegistry(), CollectorRegistry()
    GatewayMetrics(gateway).answered("http", SEARCH, outcome(500))
    metrics = LaneMetrics(lane)
    metrics.refused(ResourceExhausted("the queue is full"))

    def load(_: str) -> Any:
        raise CorruptedArtifact("not what its manifest says")

    ServedModels(lambda _: "an id", load, ServedSettings(), metrics, lambda _: None).close()
    place = str(tmp_path_factory.mktemp("workspace"))
    trainer, indexer = Trainer(workspace_url=place), Indexer(workspace_url=place)
    indexer.count_documents(INDEX, 1, 1)
    yield Exported(gateway, lane, trainer.registry, indexer.registry)
    trainer.close()
    indexer.close()


def expressions() -> list[str]:
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [*(rule["expr"] for rule in RULES), *shown]


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_what_the_rooms_export(expression: str, exported: Exported) -> None:
    used, known = SERIES.findall(expression), set()
    assert used
    for name, matchers in used:
        labels = {"room", "instance", "job"} if name == "up" else exported.labels[name]
        known |= labels
        for label, operator, value in MATCHER.findall(matchers):
            assert label in labels
            assert operator == "=", "a pattern would have to be compared otherwise"
            if label == "room":
                assert value in rooms()
            elif label == "job":
                assert value == SCRAPE["scrape_configs"][0]["job_name"]
            else:
                assert any(sample[label] == value for sample in exported.samples[name]), f"{name} {label}={value}"
    grouped = {label for labels in GROUPED.findall(expression) for label in re.findall(r"\w+", labels)}
    assert grouped - {"le"} <= known
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\d+[smhd]", "", expression)
    assert set(re.findall(r"[a-z_]+", bare)) <= OF_PROMQL | grouped | {name for name, _ in used}


def test_the_scrape_asks_every_room_by_the_name_that_it_has() -> None:
    (job,) = SCRAPE["scrape_configs"]
    asked = {target: group["labels"] for group in job["static_configs"] for target in group["targets"]}
    for lookup in job["dns_sd_configs"]:
        assert lookup["type"] == "A", "SRV records, the default, are none of Docker's"
        asked |= {f"{name}:{lookup['port']}": {"__meta_dns_name": name} for name in lookup["names"]}
    found = {relabelled(labels, job["relabel_configs"])["room"]: target for target, labels in asked.items()}
    assert len(found) == len(asked)
    assert found == {room: f"{RoomOptions().address(room)[0]}:{METRICS_PORT}" for room in rooms()}
    assert set(SCRAPE["rule_files"]) == {"alerts.yml"}


def relabelled(labels: dict[str, str], steps: list[dict[str, Any]]) -> dict[str, str]:
    """Return labels as Prometheus makes them: a step whose pattern fits the whole value writes another label."""
    labels = dict(labels)
    for step in steps:
        (source,) = step["source_labels"]
        if match := re.fullmatch(step["regex"], labels.get(source, "")):
            template = re.sub(r"\$\{?(\d)\}?", r"\\\1", step.get("replacement", "$1"))
            labels[step["target_label"]] = match.expand(template)
    return labels


def test_a_room_whose_name_is_gone_from_dns_is_down() -> None:
    (down,) = [rule["expr"] for rule in RULES if rule["alert"] == "FinetunerRoomDown"]
    names = {name for lookup in SCRAPE["scrape_configs"][0]["dns_sd_configs"] for name in lookup["names"]}
    assert {name.replace("-", "_") for name in names} == set(re.findall(r'absent\(up\{.*room="(\w+)"', down))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert DURATION.fullmatch(rule.get("for", "0s"))
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert set(rule["annotations"]) == {"summary", "description"}
    text = " ".join(rule["annotations"].values())
    assert len(rule["annotations"]["summary"]) < 100 < len(rule["annotations"]["description"])
    settings = re.findall(r"\bFINETUNER_\w+", text)
    assert set(settings) <= set(re.findall(r"\$\{(FINETUNER_\w+)", (FLOWS / "compose.yaml").read_text()))
    titles = {panel["title"] for panel in DASHBOARD["panels"]}
    assert set(re.findall(r'"([A-Z][^"]+)"', text)) <= titles


def test_alerts_are_told_apart_and_each_has_a_unit_test() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) > 10
    assert set(re.findall(r"Finetuner\w+", UNIT_TESTS.read_text())) == set(names)


def test_alerts_know_the_bounds_of_the_queue() -> None:
    text = (MONITORING / "alerts.yml").read_text()
    assert f"finetuner_queue_documents > {int(LaneSettings.queue_size * 0.8)}\n" in text
    assert f"`queue_size` ({LaneSettings.queue_size} documents) or `deadline` ({LaneSettings.deadline:g} s)" in text


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    services = read(FLOWS / "compose.yaml")["services"]
    mounted = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"] if volume.startswith("./"))
    assert mounted["./monitoring/grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = read(GRAFANA / "provisioning" / "dashboards" / "finetuner.yml")["providers"]
    assert provider["options"]["path"] == mounted["./monitoring/grafana/dashboards"]
    (source,) = read(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    assert source["isDefault"] is True, "the dashboard's variable takes the default"
    assert source["jsonData"]["timeInterval"] == SCRAPE["global"]["scrape_interval"]


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", MONITORING / "prometheus.yml"), ("test", "rules", UNIT_TESTS)],
    ids=["configuration and rules", "unit tests of the alerts"],
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str | Path, ...]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH; Debian has it in the package `prometheus`")
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
