"""Downloads from a real server: retries, limits, opt-outs, the cache, tables of addresses."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finetuner.documents.pairs import Pair, read_pair
from finetuner.exceptions import ForbiddenUri, InvalidDocument, InvalidInput, UndecodableImage, UnreachableUri
from finetuner.sources.kinds import documents_from
from finetuner.sources.links import downloads
from finetuner.sources.links.cache import LinkCache
from finetuner.sources.links.downloads import Downloads
from finetuner.sources.links.options import LinkOptions
from finetuner.sources.tables.csv_file import CSVOptions
from tests.client.sources.links.link_server import LinkServer, link_server
from tests.client.sources.made_shards import parquet


@pytest.fixture
def server(jpeg: Callable[[int], bytes]) -> Iterator[LinkServer]:
    with link_server(jpeg) as running:
        yield running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.01)


@pytest.fixture
def options(tmp_path: Path) -> LinkOptions:
    return LinkOptions(cache=str(tmp_path / "cache"))


def pairs(source: Any, links: LinkOptions, **options: Any) -> list[Pair]:
    csv_options = CSVOptions(links=links, size=options.pop("size", None))
    return [
        read_pair(document)
        for document in documents_from(source, task="text-to-image", csv_options=csv_options, **options)
    ]


def test_an_image_is_downloaded_once(server: LinkServer, options: LinkOptions, jpeg: Callable[[int], bytes]) -> None:
    for _ in range(2):
        links = Downloads(options)
        links.start(f"{server.url}/good/1")
        links.start(f"{server.url}/good/1")
        for number in (1, 2, 1):
            assert links.read(f"{server.url}/good/{number}") == jpeg(number)
    assert server.asked == {"/good/1": 1, "/good/2": 1}
    assert server.agents == {"open-finetuner"}
    assert Downloads(LinkOptions(cache=None)).read(f"{server.url}/good/1") == jpeg(1)
    assert server.asked["/good/1"] == 2


@pytest.mark.parametrize(
    ("kind", "attempts", "error", "expected"),
    [
        ("dead", 1, UnreachableUri, "uri must answer 200. Got 404"),
        ("broken", 3, UnreachableUri, "uri must answer 200. Got 500"),
        ("hang-up", 3, UnreachableUri, "uri must be reachable"),
        ("page", 1, UndecodableImage, "link must lead to an image. Got 28 bytes that begin with b'<!DOCTYPE html><'"),
        ("optout", 1, ForbiddenUri, r"must not have opted out. Got X-Robots-Tag 'noai'. .*opt_out=False"),
    ],
)
def test_failures(
    server: LinkServer, options: LinkOptions, kind: str, attempts: int, error: type[Exception], expected: str
) -> None:
    links, address = Downloads(options), f"{server.url}/{kind}/1"
    links.start(address)
    for _ in range(2):  # what has failed is not tried again
        with pytest.raises(error, match=expected):
            links.read(address)
    assert server.asked[f"/{kind}/1"] == attempts


def test_a_busy_server_is_asked_again(server: LinkServer, options: LinkOptions, jpeg: Callable[[int], bytes]) -> None:
    assert Downloads(options).read(f"{server.url}/busy/1") == jpeg(1)
    with pytest.raises(UnreachableUri, match="503"):
        Downloads(LinkOptions(retries=0, cache=None)).read(f"{server.url}/busy/2")


def test_opting_out_counts_for_those_it_names(server: LinkServer, options: LinkOptions) -> None:
    assert Downloads(options).read(f"{server.url}/optout-others/1")
    named = LinkOptions(headers={"user-agent": "GPTBot/1.0"}, cache=None)
    with pytest.raises(ForbiddenUri, match="opted out"):
        Downloads(named).read(f"{server.url}/optout-others/1")
    assert server.agents == {"open-finetuner", "GPTBot/1.0"}
    assert Downloads(LinkOptions(opt_out=False, cache=None)).read(f"{server.url}/optout/1")


def test_private_addresses_may_be_refused(server: LinkServer) -> None:
    with pytest.raises(ForbiddenUri, match="uri must be a public address. Got '127.0.0.1'"):
        Downloads(LinkOptions(private=False, cache=None)).read(f"{server.url}/good/1")
    assert not server.asked


def test_downloads_run_at_the_same_time_up_to_a_limit(server: LinkServer) -> None:
    links = Downloads(LinkOptions(concurrency=8, per_host=2, cache=None))
    addresses = [f"{server.url}/two/{number}" for number in range(12)]
    for address in addresses:
        links.start(address)
    for address in addresses:
        links.read(address)
    assert server.most == 2


def test_threads_end_with_the_object(server: LinkServer) -> None:
    before = {thread for thread in threading.enumerate() if thread.name == "link"}
    links = Downloads(LinkOptions(concurrency=4, cache=None))
    for number in range(9):
        links.start(f"{server.url}/good/{number}")
    threads = {thread for thread in threading.enumerate() if thread.name == "link"} - before
    assert len(threads) == 4
    del links
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


FORMS = pytest.mark.parametrize("form", ["csv", "header", "jsonl", "parquet", "coco"])


def table(folder: Path, form: str, addresses: list[str]) -> Path:
    rows = [(address, f"text {number}") for number, address in enumerate(addresses)]
    if form == "parquet":
        columns = {"URL": addresses, "TEXT": [text for _, text in rows], "similarity": [0.3] * len(rows)}
        return parquet(folder / "laion.parquet", columns)
    if form == "coco":
        images = [{"id": number, "file_name": address} for number, address in enumerate(addresses)]
        captions = [{"id": number, "image_id": number, "caption": text} for number, (_, text) in enumerate(rows)]
        content = json.dumps({"images": images, "annotations": captions})
    elif form == "jsonl":
        content = "".join(f"{json.dumps({'image_url': address, 'caption': text})}\n" for address, text in rows)
    else:
        header = "url,caption\n" if form == "header" else ""
        content = header + "".join(f"{address},{text}\n" for address, text in rows)
    path = folder / f"{form}.{ {'coco': 'json', 'header': 'csv'}.get(form, form) }"
    path.write_text(content)
    return path


@FORMS
def test_tables_of_addresses(
    server: LinkServer, options: LinkOptions, tmp_path: Path, jpeg: Callable[[int], bytes], form: str
) -> None:
    path = table(tmp_path, form, [f"{server.url}/good/{number}" for number in range(30)])
    expected = [Pair(f"text {number}", jpeg(number)) for number in range(30)]
    assert pairs(path, options) == expected
    assert set(server.asked.values()) == {1}
    asked = server.asked.total()
    assert pairs(path, options) == expected
    assert server.asked.total() == asked


@FORMS
def test_no_more_is_downloaded_than_is_read(server: LinkServer, tmp_path: Path, form: str) -> None:
    path = table(tmp_path, form, [f"{server.url}/good/{number}" for number in range(30)])
    assert len(pairs(path, LinkOptions(cache=None), size=3)) == 3
    assert len(server.asked) <= 7  # those ahead of the third, as many as are read, and the one after it


@FORMS
def test_failures_are_counted_by_reason(server: LinkServer, options: LinkOptions, tmp_path: Path, form: str) -> None:
    kinds = ["dead"] * 18 + ["page"] * 6 + ["optout"] * 2 + ["good"] * 20
    path = table(tmp_path, form, [f"{server.url}/{kind}/{number}" for number, kind in enumerate(kinds)])
    expected = "and 6 more; all 26: 18 answered 404, 6 not an image, 2 not allowed"
    with pytest.warns(UserWarning, match=f"left out 26 entries (.*\n)*.*{expected}"):
        assert len(pairs(path, options, on_error="skip")) == 20
    with pytest.raises(InvalidDocument, match=expected):
        pairs(path, options)


def test_an_interrupted_reading_resumes(server: LinkServer, options: LinkOptions, tmp_path: Path) -> None:
    path = table(tmp_path, "jsonl", [f"{server.url}/good/{number}" for number in range(300)])
    documents = documents_from(path, task="text-to-image", csv_options=CSVOptions(links=options))
    for _ in range(100):
        next(documents)
    del documents
    assert len(pairs(path, options)) == 300
    asked_twice = [address for address, count in server.asked.items() if count > 1]
    assert len(asked_twice) <= options.concurrency  # those that ran when the first reading ended


def test_old_images_are_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LinkCache(str(tmp_path / "cache"))
    cache.write("http://x/ü", b"a")
    assert LinkCache(str(tmp_path / "cache")).read("http://x/ü") == b"a"
    monkeypatch.setattr("finetuner.sources.links.cache.KEPT_DAYS", -1)
    assert LinkCache(str(tmp_path / "cache")).read("http://x/ü") is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert LinkCache("auto").folder == tmp_path / "home/open-finetuner/links"


def test_equal_images_of_several_addresses_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LinkCache(str(tmp_path / "cache"))
    for address, content in (("http://x/1", b"same"), ("http://y/2", b"same"), ("http://x/3", b"other")):
        cache.write(address, content)
    files = [path for path in cache.folder.rglob("*") if path.is_file()]
    assert (len(files), len({path.stat().st_ino for path in files})) == (5, 2)
    assert [cache.read(address) for address in ("http://x/1", "http://y/2", "http://x/3")] == [
        b"same",
        b"same",
        b"other",
    ]
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("no hard links")))
    cache.write("http://z/4", b"same")
    assert cache.read("http://z/4") == b"same"


def test_addresses_are_refused_where_they_are_not_allowed(server: LinkServer, tmp_path: Path) -> None:
    path = table(tmp_path, "jsonl", [f"{server.url}/good/{number}" for number in range(3)])
    with pytest.raises(InvalidDocument, match="line 1: image must lie in the file itself. Got the address 'http"):
        pairs(path, LinkOptions(cache=None, allowed=False))
    assert not server.asked


def test_a_cache_that_cannot_be_written_is_refused(server: LinkServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="LinkOptions.cache must be a folder that can be written. Got '.*file"):
        Downloads(LinkOptions(cache=str(tmp_path / "file"))).read(f"{server.url}/good/1")


def test_images_of_rows_without_a_caption_are_not_downloaded(server: LinkServer, tmp_path: Path) -> None:
    lines = "".join(f"{server.url}/good/{number},{'a' if number % 2 else ' '}\n" for number in range(10))
    for header in ("", "url,text\n"):
        (tmp_path / "a.csv").write_text(f"{header}{lines}")
        with pytest.warns(UserWarning, match="left out 5"):
            assert len(pairs(tmp_path / "a.csv", LinkOptions(cache=None), on_error="skip")) == 5
    assert server.asked == {f"/good/{number}": 2 for number in range(1, 10, 2)}


def test_a_full_disk_is_named(server: LinkServer, options: LinkOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LinkCache, "write", full)
    links = Downloads(options)
    links.start(f"{server.url}/good/1")
    with pytest.raises(InvalidInput, match="must fit into '.*cache'. Got an error: No space left on device. Free some"):
        links.read(f"{server.url}/good/1")


def test_options_are_for_tables(shop: Path) -> None:
    for number in range(4):
        (shop / f"{number}.txt").write_text("a")
    with pytest.raises(InvalidInput, match="CSVOptions.links is for files that name images. Got .* with folder"):
        pairs(shop, LinkOptions(retries=0))
