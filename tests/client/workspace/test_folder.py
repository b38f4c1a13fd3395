"""Names, pointers, and folders that are published completely or not at all."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from finetuner.contract.checks import checked_name
from finetuner.exceptions import FinetunerServerError, InvalidInput
from finetuner.workspace.folder import (
    LAYOUT_FILE,
    Pointers,
    Workspace,
    check_layout,
    publish_folder,
    remove,
    temporary_folder,
    write_atomically,
)


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "x" * 128])
def test_a_valid_name_is_unchanged(name: str) -> None:
    assert checked_name(name, "run_name") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a b",
        " a",
        "a\n",
        "-a",
        "_a",
        ".a",
        "ä",
        "a\0",
        "x" * 129,
        None,
        7,
        b"a",
    ],
)
def test_a_path_or_another_value_is_not_a_name(name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"run_name must be 1 to 128 letters.*paths are not names") as caught:
        checked_name(name, "run_name")
    assert f"Got {name!r}." in str(caught.value)


@pytest.mark.parametrize("name", ["live", "ä/ö", "../../escape", "日本語 🎽", "", "." * 300, "a\0b"])
def test_a_pointer_may_have_any_name_and_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    pointers = Pointers(tmp_path / "inner" / "names", "alias", dict)
    assert pointers.get(name) is None
    assert not pointers.delete(name)
    pointers.set(name, {"artifact": "one"})
    pointers.set(name, {"artifact": "zwei ü"})
    assert pointers.get(name) == {"artifact": "zwei ü"}
    assert list(pointers.all()) == [(name, {"artifact": "zwei ü"})]
    assert [path.parent.name for path in tmp_path.rglob("*") if path.is_file()] == ["names"]
    assert pointers.delete(name)
    assert list(pointers.all()) == []


def test_pointers_come_sorted_by_name(tmp_path: Path) -> None:
    pointers = Pointers(tmp_path, "alias", dict)
    for name in ("b", "ä", "a"):
        pointers.set(name, {})
    assert [name for name, _ in pointers.all()] == ["a", "b", "ä"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"name": "bad"}', b'{"name": "bad", "target": {"artifact": 5}}',
     b'{"name": "other", "target": {"artifact": "a"}}', b'{"name": ["bad"], "target": {"artifact": "a"}}'],
)  # fmt: skip
def test_a_damaged_alias_costs_its_own_name_alone(tmp_path: Path, content: bytes) -> None:
    workspace = Workspace(tmp_path)
    for name in ("bad", "good"):
        workspace.aliases.set(name, {"artifact": "a"})
    file = workspace.aliases._file("bad")
    file.write_bytes(content)
    assert list(workspace.aliases.all()) == [("good", {"artifact": "a"})]
    (problem,) = workspace.aliases.problems()
    assert problem.startswith(f"aliases/{file.name} must hold the target of one alias. Got ")
    with pytest.raises(FinetunerServerError, match=r"It is set aside: set that alias again.* The name is 'bad'\."):
        workspace.artifact_of("bad")
    workspace.aliases.set("bad", {"artifact": "b"})
    assert workspace.artifact_of("bad") == "b"
    assert workspace.aliases.problems() == []


def test_a_reader_sees_the_old_or_the_new_content(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", (b"a" * 100_000, b"b" * 50_000)
    write_atomically(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(40):
            write_atomically(path, contents[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(contents)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_published_with_everything_in_it(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    new = temporary_folder(workspace.artifacts)
    (new / "inner").mkdir()
    (new / "inner" / "file").write_text("x")
    final = workspace.artifacts / "final"
    publish_folder(new, final)
    assert (final / "inner" / "file").read_text() == "x"
    assert not new.exists()


def test_a_published_folder_is_not_overwritten(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for content in ("first", "second"):
        new = temporary_folder(workspace.artifacts)
        (new / "file").write_text(content)
        if content == "first":
            publish_folder(new, workspace.artifacts / "final")
        else:
            with pytest.raises(OSError, match="not empty"):
                publish_folder(new, workspace.artifacts / "final")
    assert (workspace.artifacts / "final" / "file").read_text() == "first"


def test_a_removed_folder_is_gone(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "folder" / "inner" / "file").touch()
    remove(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_is_a_folder_or_its_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b ä"
    assert Workspace(folder).root == Workspace(str(folder)).root == Workspace(folder.as_uri()).root == folder
    assert folder.is_dir()


def test_a_workspace_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be a folder or a file:// URL. Got 's3://bucket/x'"):
        Workspace("s3://bucket/x")


def test_a_workspace_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert not check_layout(tmp_path), "made by a version that wrote no file, or new"
    workspace.claim()
    assert check_layout(tmp_path)
    (tmp_path / LAYOUT_FILE).write_text(json.dumps({"layout": 2, "version": "7.0.0"}))
    before = (tmp_path / LAYOUT_FILE).read_bytes()
    with pytest.raises(InvalidInput, match=r"Got 2, of 7\.0\.0, in .*Install that version or a newer one"):
        workspace.claim()
    assert (tmp_path / LAYOUT_FILE).read_bytes() == before
    for damaged in ("", "[]", '{"layout": "x"}', '{"version": "1"}'):
        (tmp_path / LAYOUT_FILE).write_text(damaged)
        workspace.claim()
        assert check_layout(tmp_path)
