"""A Flow's YAML gets this start's ports, workspace and paths."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from finetuner.contract.environment import FLOWS
from finetuner.exceptions import InvalidInput
from finetuner.flow.settings import configured_flow, flow_file


def test_settings_are_written_into_the_yaml(small_flow: Path, tmp_path: Path) -> None:
    with configured_flow(small_flow, workspace=tmp_path / "elsewhere", grpc_port=0, http_port=0) as content:
        ports = [*content["gateway"]["port"], *(room["port_monitoring"] for room in content["executors"])]
    ports.append(content["gateway"]["port_monitoring"])
    assert len(set(ports)) == 5
    assert 0 not in ports
    assert not {51000, 51001, 51100, 51101, 51102} & set(ports)
    for room in content["executors"]:
        assert room["uses_with"]["workspace_url"] == str(tmp_path / "elsewhere")
    with configured_flow(flow_file(), workspace=tmp_path, grpc_port=0, http_port=0) as content:
        assert Path(content["gateway"]["uses"]).is_absolute()


def test_ports_are_reserved_until_the_block_ends(small_flow: Path, tmp_path: Path) -> None:
    with configured_flow(small_flow, workspace=tmp_path, grpc_port=0, http_port=0) as content:
        ports = [*content["gateway"]["port"], *(room["port_monitoring"] for room in content["executors"])]
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="already in use"):
                other.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()  # it sets SO_REUSEADDR, as a room does
    for port in ports:
        with socket.socket() as other:
            other.bind(("127.0.0.1", port))


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


def test_the_error_without_a_checkout_names_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FLOWS, str(tmp_path))
    with pytest.raises(InvalidInput, match="checkout"):
        flow_file()
