"""The table of metrics, what the rooms export, and the dashboard: each names what the others do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from docarray import Document, DocumentArray
from jina import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from finetuner.contract.wire import ENCODE, INDEX, SEARCH
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file

FOLDER = flow_file().parent
DASHBOARD = FOLDER / "monitoring" / "grafana" / "dashboards" / "finetuner.json"
README = (FOLDER / "README.md").read_text()
ROW = re.compile(r"^\| `(finetuner_\w+)(?:\{([\w, ]+)\})?` \| ([\w ]+) \|", re.MULTILINE)
ENCODERS = ("text_encoder", "vision_encoder")
ROOMS = {
    "gateway": ("gateway",),
    "trainer": ("trainer",),
    "indexer": ("indexer",),
    "encoders": ENCODERS,
    "all rooms": ("trainer", "evaluator", *ENCODERS, "indexer"),
}
LABELS = {name: set(re.findall(r"\w+", labels)) for name, labels, _ in ROW.findall(README)}
SCRAPED = {"room"}  # what Prometheus adds, as the README tells it to
OF_PROMQL = {"sum", "min", "by", "rate", "increase", "histogram_quantile", "le"}


@pytest.fixture(scope="module")
def exported(flow: RunningFlow) -> dict[str, dict[str, Metric]]:
    """Our metrics of each room, by the name under which they are documented, after a request of each kind."""
    client = Client(host=flow.host)
    for endpoint in (ENCODE, INDEX, SEARCH):
        client.post(endpoint, DocumentArray([Document(text="a red dress"), Document(blob=b"no image")]))
    return {room: families(httpx.get(url).text) for room, url in flow.metrics.items()}


def families(text: str) -> dict[str, Metric]:
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("finetuner_") and not family.name.endswith("_created"):
            found[family.name + "_total" * (family.type == "counter")] = family
    return found


def test_the_table_names_every_metric_of_every_room(exported: dict[str, dict[str, Metric]]) -> None:
    assert len(LABELS) == len(ROW.findall(README)) > 20, "no metric twice"
    documented = {(room, name) for name, _, rooms in ROW.findall(README) for room in ROOMS[rooms]}
    assert documented == {(room, name) for room, metrics in exported.items() for name in metrics}


def test_the_table_names_every_label(exported: dict[str, dict[str, Metric]]) -> None:
    seen = set()
    for metrics in exported.values():
        for name, family in metrics.items():
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == LABELS[name], name
                seen.add(name)
    assert len(seen) > 15


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> list[tuple[str, str]]:
    """Return the PromQL and the legend of each curve."""
    return [(target["expr"], target["legendFormat"]) for panel in panels() for target in panel.get("targets", [])]


def documented_name(series: str) -> str:
    """Return the metric of the table that a series belongs to; histograms have three."""
    return series if series in LABELS else re.sub("_(bucket|sum|count)$", "", series)


def test_the_dashboard_shows_every_metric_and_no_other(exported: dict[str, dict[str, Metric]]) -> None:
    series = {name for expression, _ in expressions() for name in re.findall(r"finetuner_\w+", expression)}
    samples = {sample.name for metrics in exported.values() for family in metrics.values() for sample in family.samples}
    declared = {name for metrics in exported.values() for name, family in metrics.items() if not family.samples}
    assert series <= samples | declared | {f"{name}_bucket" for name in declared}
    assert {documented_name(name) for name in series} == set(LABELS)


@pytest.mark.parametrize(("expression", "legend"), expressions())
def test_a_curve_uses_labels_that_exist(expression: str, legend: str) -> None:
    names = re.findall(r"finetuner_\w+", expression)
    grouped = set(re.findall(r"\w+", ",".join(re.findall(r"by \(([\w, ]+)\)", expression))))
    allowed = set.intersection(*(LABELS[documented_name(name)] for name in names)) | SCRAPED
    assert grouped - {"le"} == set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert ("le" in grouped) == all(name.endswith("_bucket") for name in names)
    assert grouped - {"le"} <= allowed
    assert expression.count("(") == expression.count(")")
    words = set(re.findall(r"[a-z_]+", re.sub(r"\$\w+", "", expression)))
    assert words <= OF_PROMQL | grouped | set(names)


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert {"uid", "title", "schemaVersion", "version", "time", "templating", "annotations", "panels"} <= set(dashboard)
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    shown = panels()
    assert len({panel["id"] for panel in shown}) == len(shown)
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert all(column < 24 for column, _ in cells)
        taken |= cells
        assert panel["type"] in {"row", "timeseries"}
        if panel["type"] == "timeseries":
            assert panel["datasource"] == panel["targets"][0]["datasource"] == {
                "type": "prometheus", "uid": "${datasource}",
            }  # fmt: skip
            assert panel["fieldConfig"]["defaults"]["unit"] in {"reqps", "cps", "s", "short", "bytes"}


def test_the_scrape_configuration_names_the_ports_of_the_flow() -> None:
    config = yaml.safe_load(re.search(r"```yaml\n(scrape_configs:.*?)```", README, re.DOTALL)[1])  # type: ignore[index]
    named = {entry["labels"]["room"]: entry["targets"] for entry in config["scrape_configs"][0]["static_configs"]}
    content = yaml.safe_load(flow_file().read_text())
    rooms = [{**content["gateway"], "name": "gateway"}, *content["executors"]]
    assert named == {room["name"]: [f"127.0.0.1:{room['port_monitoring']}"] for room in rooms}


def test_the_readme_of_the_flows_links_to_what_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert all(Path(FOLDER / link).exists() for link in links)
