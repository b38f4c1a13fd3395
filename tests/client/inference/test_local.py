"""Models and embeddings on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.artifacts.archive import zip_artifact
from finetuner.documents.images import decode
from finetuner.documents.uris import read_local
from finetuner.exceptions import ArtifactNotFound, InvalidDocument, InvalidInput, NoSuchModel, SelectModelRequired
from finetuner.inference import encoding
from finetuner.inference.encoding import encode_documents
from finetuner.inference.local import InferenceModel, build_model, encode, open_artifact
from finetuner.models.clip import Clip

Jpeg = Callable[[int], bytes]


@pytest.fixture
def text(mini: Clip) -> InferenceModel:
    return InferenceModel(mini, "clip-text", batch_size=2)


@pytest.fixture
def vision(mini: Clip) -> InferenceModel:
    return InferenceModel(mini, "clip-vision", batch_size=2)


def test_texts_become_rows(text: InferenceModel, mini: Clip) -> None:
    texts = ["a red dress", "ein blaues Hemd", "x"]
    found = encode(text, texts)
    assert found.shape == (3, text.dim)
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.allclose(found, mini.encode_texts(texts), atol=1e-6)
    assert np.allclose(encode(text, texts, batch_size=1), found, atol=1e-6)


def test_short_vectors_are_the_first_numbers_normalised_again(mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini, "short_dims", (64, 32))
    model, texts = InferenceModel(mini, "clip-text"), ["a red dress", "ein blaues Hemd"]
    whole = encode(model, texts)
    assert model.short_dims == (64, 32)
    for size in (64, 32):
        found = encode(model, texts, dimensions=size)
        assert (found.shape, found.dtype) == ((2, size), np.float32)
        for row, cut in zip(whole.astype(np.float64), found, strict=True):
            np.testing.assert_allclose(cut, row[:size] / np.sqrt((row[:size] ** 2).sum()), atol=1e-6)
    documents = DocumentArray([Document(text=text) for text in texts])
    assert encode(model, documents, dimensions=32).embeddings.shape == (2, 32)
    np.testing.assert_array_equal(encode(model, texts, dimensions=128), whole)
    broken = encode(model, ["a", 5], dimensions=32, on_error="return")
    assert broken.shape == (2, 32)
    assert np.isnan(broken[1]).all()


def test_other_sizes_are_refused_before_anything_is_encoded(text: InferenceModel) -> None:
    documents = DocumentArray([Document(text="a")])
    with pytest.raises(InvalidInput, match="dimensions must be 128, .* Got 64. Leave it out. .*matryoshka_dims"):
        encode(text, documents, dimensions=64)
    assert documents[0].embedding is None


@pytest.mark.parametrize(
    ("given", "passes"),
    [({}, [2] * 17), ({"batch_size": 32}, [32, 2]), ({"batch_size": 20}, [20, 14])],
    ids=["left out", "32", "20"],
)
def test_a_given_batch_size_overrides_the_models_own(
    text: InferenceModel, monkeypatch: pytest.MonkeyPatch, given: dict[str, int], passes: list[int]
) -> None:
    seen: list[int] = []
    encode_texts = Clip.encode_texts

    def recorded(self: Clip, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        seen.append(len(texts))
        return encode_texts(self, texts, batch_size)

    monkeypatch.setattr(Clip, "encode_texts", recorded)
    encode(text, ["a red dress"] * 34, **given)
    assert seen == passes


def test_paths_and_uris_become_rows(vision: InferenceModel, mini: Clip, tmp_path: Path, jpeg: Jpeg) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    found = encode(vision, [str(tmp_path / "0.jpg"), (tmp_path / "1.jpg").as_uri()])
    assert np.allclose(found, mini.encode_images([decode(jpeg(number)) for number in range(2)]), atol=1e-6)


def test_documents_keep_their_identity(vision: InferenceModel, jpeg: Jpeg) -> None:
    documents = DocumentArray([Document(blob=jpeg(0)), Document(tensor=np.asarray(decode(jpeg(0))))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode(vision, documents) is documents
    assert np.allclose(documents[0].embedding, documents[1].embedding, atol=1e-6)
    assert [document.tags["finetuner_artifact"] for document in documents] == ["clip-mini"] * 2


def test_one_broken_image_carries_its_error_and_the_rest_are_embedded(vision: InferenceModel, jpeg: Jpeg) -> None:
    documents = DocumentArray([Document(blob=blob) for blob in (jpeg(0), b"broken", jpeg(1)[:300], jpeg(2))])
    documents[1].embedding = np.ones(3)
    with pytest.warns(UserWarning, match=r"2 of 4 documents are not.*first is document 1: image must be") as seen:
        encode(vision, documents)
    assert seen[0].filename == __file__
    assert [document.embedding is not None for document in documents] == [True, False, False, True]
    assert documents[1].tags["finetuner_error"]["type"] == "UndecodableImage"
    documents[1].blob = documents[2].blob = jpeg(3)
    encode(vision, documents)
    assert all(document.embedding is not None for document in documents)
    assert all("finetuner_error" not in document.tags for document in documents)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_no_data_gives_no_rows(published: Path, tower: str) -> None:
    model = open_artifact(published, select_model=f"clip-{tower}")
    assert encode(model, []).shape == (0, model.dim)
    assert encode(model, []).dtype == np.float32
    assert len(encode(model, DocumentArray())) == 0


def test_the_error_names_the_item_that_cannot_be_encoded(
    text: InferenceModel, vision: InferenceModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.jpg").write_text("no image")
    with pytest.raises(InvalidDocument, match=r"item 0 \('text.jpg'\): image must be an image file"):
        encode(vision, ["text.jpg"])
    with pytest.raises(InvalidDocument, match=r"item 0 \('/no/such.jpg'\): uri must be a readable file"):
        encode(vision, ["/no/such.jpg"])
    with pytest.raises(InvalidDocument, match=r"item 1 \(''\): document must hold a text for clip-text. Got none"):
        encode(text, ["a", ""])


def test_on_error_raises_warns_or_returns(text: InferenceModel, vision: InferenceModel, mini: Clip, jpeg: Jpeg) -> None:
    def documents() -> DocumentArray:
        return DocumentArray([Document(blob=jpeg(0)), Document(blob=b"broken")])

    with pytest.raises(InvalidDocument, match="document 1: image must be an image file"):
        encode(vision, documents(), on_error="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = encode(vision, documents(), on_error="return")
        vectors = encode(text, ["a", ""], on_error="return")
    assert [document.embedding is None for document in found] == [False, True]
    np.testing.assert_allclose(vectors[0], mini.encode_texts(["a"])[0], atol=1e-6)
    assert np.isnan(vectors[1]).all()
    with pytest.warns(UserWarning, match=r"1 of 2 items are not encoded. The first is item 1 \(''\)"):
        encode(text, ["a", ""], on_error="warn")
    with pytest.raises(InvalidInput, match="on_error must be one of raise, warn, return. Got 'ignore'"):
        encode(text, [], on_error="ignore")


def test_documents_for_the_other_tower_are_skipped_with_a_warning(text: InferenceModel, jpeg: Jpeg) -> None:
    documents = DocumentArray([Document(text="a"), Document(blob=jpeg(0))])
    with pytest.warns(UserWarning, match=r"1 of 2 documents.*document 1: document must hold a text for clip-text"):
        encode(text, documents)
    assert documents[1].embedding is None


def test_a_text_that_is_too_long_is_an_error_of_its_document(mini: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_TEXT", 5)
    documents = [Document(text="short"), Document(text="longer"), Document(text="again")]
    assert encode_documents(mini, documents, read_uri=read_local) == (2, 1)
    assert "at most 5 characters. Got 6" in documents[1].tags["finetuner_error"]["message"]


def test_progress_counts_every_document(mini: Clip, jpeg: Jpeg) -> None:
    done: list[int] = []
    documents = [
        Document(text="a"),
        Document(blob=jpeg(0)),
        Document(blob=b"x"),
        Document(text="b"),
        Document(text="c"),
    ]
    assert encode_documents(mini, documents, read_uri=read_local, batch_size=2, on_batch=done.append) == (4, 1)
    assert done == [2, 1, 2]


def test_the_packaged_model_is_built(capfd: pytest.CaptureFixture[str]) -> None:
    model = build_model("clip-mini", select_model="clip-text", device="cpu")
    assert encode(model, ["a red dress"]).shape == (1, model.dim)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("select", [None, "clip", "text", ""])
def test_a_tower_must_be_chosen(published: Path, select: str | None) -> None:
    for opened in (
        lambda: build_model("clip-mini", select_model=select),
        lambda: open_artifact(published, select_model=select),
    ):
        with pytest.raises(SelectModelRequired, match="must be one of clip-text, clip-vision for .* Got"):
            opened()
    with pytest.raises(NoSuchModel):
        build_model("clip-maxi", select_model="clip-text")


def test_an_artifact_opens_as_folder_as_parent_and_as_zip(
    published: Path, tmp_path: Path, mini: Clip, capfd: pytest.CaptureFixture[str]
) -> None:
    archive = zip_artifact(published, tmp_path / "run.zip", "run")
    for path in (published, published.parent, archive):
        model = open_artifact(path, select_model="clip-text", device="cpu")
        assert model.encoder.model_id == published.name
        assert np.allclose(encode(model, ["a red dress"]), mini.encode_texts(["a red dress"]), atol=1e-6)
    assert capfd.readouterr().err == ""


def test_no_artifact_is_not_found(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.zip"):
        with pytest.raises(ArtifactNotFound, match="artifact must be a folder"):
            open_artifact(path, select_model="clip-text")


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_documents_in_any_storage_keep_vectors_and_errors(
    storage: str, text: InferenceModel, mini: Clip, tmp_path: Path
) -> None:
    config = {"connection": str(tmp_path / "documents.db")} if storage == "sqlite" else None
    documents = DocumentArray(storage=storage, config=config)
    documents.extend([Document(text=f"dress {number}") for number in range(4)] + [Document(text="half \ud83d")])
    with pytest.warns(UserWarning, match="1 of 5 documents are not .*document 4: text must be Unicode text"):
        assert encode(text, documents, batch_size=3) is documents
    expected = mini.encode_texts([f"dress {number}" for number in range(4)])
    assert np.allclose(np.stack([document.embedding for document in documents[:4]]), expected, atol=1e-6)
    assert documents[4].embedding is None
    assert documents[4].tags["finetuner_error"]["type"] == "InvalidDocument"


def test_paths_may_be_objects_or_begin_at_the_home_folder(
    vision: InferenceModel, mini: Clip, tmp_path: Path, jpeg: Jpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    expected = mini.encode_images([decode(jpeg(0))] * 2)
    assert np.allclose(encode(vision, [tmp_path / "0.jpg", "~/0.jpg"]), expected, atol=1e-6)


@pytest.mark.parametrize(
    "data", [("a", "b"), np.array(["a", "b"]), (letter for letter in "ab"), {"a": 1, "b": 2}.keys()]
)
def test_any_iterable_of_texts_is_a_list(text: InferenceModel, mini: Clip, data: Any) -> None:
    assert np.allclose(encode(text, data), mini.encode_texts(["a", "b"]), atol=1e-6)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, r"item 1 \(None\): item must be a text. Got NoneType"),
        (3, r"item 1 \(3\): item must be a text. Got int"),
        (Path("a.jpg"), r"item 1 \(PosixPath\('a.jpg'\)\): item must be a text. Got PosixPath"),
        (Document(text="a"), "item must be a text. Got Document. Put documents into a DocumentArray"),
        ("half \ud83d", r"item 1 \('half \\ud83d'\): text must be Unicode text"),
    ],
)
def test_an_item_that_is_no_text_is_named_and_its_neighbours_are_encoded(
    text: InferenceModel, mini: Clip, item: Any, message: str
) -> None:
    with pytest.raises(InvalidDocument, match=message):
        encode(text, ["a", item, "b"])
    found = encode(text, ["a", item, "b"], on_error="return")
    assert np.allclose(found[[0, 2]], mini.encode_texts(["a", "b"]), atol=1e-6)
    assert np.isnan(found[1]).all()


@pytest.mark.parametrize("data", ["a text", b"bytes", None, 3, {"a": 1}, Path("a.jpg")])
def test_data_of_another_type_is_refused(text: InferenceModel, data: Any) -> None:
    with pytest.raises(InvalidInput, match="data must be a DocumentArray or a list of strings. Got "):
        encode(text, data)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, "32", 65_537])
def test_a_batch_has_at_least_one_document(text: InferenceModel, mini: Clip, batch_size: Any) -> None:
    for call in (lambda: encode(text, ["a"], batch_size), lambda: InferenceModel(mini, "clip-text", batch_size)):
        with pytest.raises(InvalidInput, match=r"batch_size must be a whole number in \[1, 65536\]. Got "):
            call()
