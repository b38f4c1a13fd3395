"""A Flow's YAML gets this start's ports, workspace and paths."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from finetuner.contract.environment import FLOWS
from finetuner.exceptions import InvalidInput
from finetuner.flow.settings import configured_flow, flow_file, load_flow, read_flow
from tests.ports import held_ports


def ports_of(content: dict[str, Any]) -> list[int]:
    """Return every port of a Flow: of its gateway, its rooms, and the metrics of both."""
    rooms = [content["gateway"], *content["executors"]]
    named = [room.get("peer_ports", {}).get("0") or room["port"] for room in rooms] + [
        room["port_monitoring"] for room in rooms
    ]
    return [port for each in named for port in (each if isinstance(each, list) else [each])]


def test_settings_are_written_into_the_yaml(small_flow: Path, tmp_path: Path) -> None:
    with configured_flow(small_flow, workspace=tmp_path / "elsewhere", grpc_port=0, http_port=0) as content:
        ports = ports_of(content)
    assert len(set(ports)) == 7
    assert 0 not in ports
    assert not {51000, 51001, 51100, 51101, 51102} & set(ports)
    for room in content["executors"]:
        assert room["uses_with"]["workspace_url"] == str(tmp_path / "elsewhere")
    with configured_flow(flow_file(), workspace=tmp_path, grpc_port=0, http_port=0) as content:
        assert Path(content["gateway"]["uses"]).is_absolute()


def test_ports_are_reserved_until_the_block_ends(small_flow: Path, tmp_path: Path) -> None:
    with configured_flow(small_flow, workspace=tmp_path, grpc_port=0, http_port=0) as content:
        ports = ports_of(content)
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="already in use"):
                other.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()  # it sets SO_REUSEADDR, as a room does
    for port in ports:
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))


def test_flows_that_start_at_the_same_moment_share_no_port(small_flow: Path, tmp_path: Path) -> None:
    """Neither listens yet, and each has the same ports in its YAML."""
    with ExitStack() as both:
        free: dict[str, Any] = {"workspace": tmp_path, "grpc_port": 0, "http_port": 0}
        flows = [both.enter_context(configured_flow(file, **free)) for file in (small_flow, flow_file("encode"))]
        flows += [named_ports(both, small_flow, tmp_path) for _ in range(3)]
        ports = [port for content in flows for port in ports_of(content)]
        assert len(set(ports)) == len(ports)
        taken = flows[-1]["gateway"]["port"][1]
        with pytest.raises(InvalidInput, match=f"Port {taken} cannot be used.*--http-port"):
            both.enter_context(configured_flow(small_flow, workspace=tmp_path, grpc_port=0, http_port=taken))


def named_ports(both: ExitStack, flow: Path, workspace: Path) -> dict[str, Any]:
    """Return a Flow with ports that are named. Another process may take one in the moment in which it is free."""
    for left in reversed(range(5)):
        with held_ports(2) as (grpc, http):
            pass
        try:
            return both.enter_context(configured_flow(flow, workspace=workspace, grpc_port=grpc, http_port=http))
        except InvalidInput:
            if not left:
                raise
    raise AssertionError


def test_given_ports_are_used(small_flow: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        wanted = [one.getsockname()[1], two.getsockname()[1]]
    with configured_flow(small_flow, workspace=tmp_path, grpc_port=wanted[0], http_port=wanted[1]) as content:
        assert content["gateway"]["port"] == wanted


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(small_flow: Path, tmp_path: Path, port: int) -> None:
    settings = configured_flow(small_flow, workspace=tmp_path, grpc_port=port, http_port=0)
    with pytest.raises(InvalidInput, match=r"0 .the system chooses. to 65535"), settings:
        pass


def test_a_folder_without_flows_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FLOWS, str(tmp_path))
    with pytest.raises(InvalidInput, match="FINETUNER_FLOWS must be a folder with YAMLs"):
        flow_file()


def test_a_shown_flow_starts_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "mine.yml"
    copy.write_text(read_flow(flow_file("search")))
    monkeypatch.chdir(tmp_path)
    shown, packaged = (load_flow(flow_file(name), tmp_path) for name in ("mine.yml", "search"))
    assert shown == packaged
    assert "# Loopback. 0.0.0.0 accepts other machines" in copy.read_text()
    with pytest.raises(InvalidInput, match=r"existing YAML file. Got 'nowhere.yml'"):
        flow_file("nowhere.yml")
