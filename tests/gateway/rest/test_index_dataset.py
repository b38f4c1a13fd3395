"""Documents of a dataset as those of an index."""

from __future__ import annotations

from docarray import Document, DocumentArray

from finetuner import make_pair
from finetuner.contract import wire
from finetuner.executors.gateway.rest.manage.index_dataset import as_indexed


def test_a_pair_becomes_its_image_with_the_caption_and_equal_images_one() -> None:
    image, other = b"\xff\xd8\xff one", b"\xff\xd8\xff two"
    tags = {"price": 5.0, wire.SCORE_TAG: 1.0, wire.ARTIFACT_TAG: "x", "caption": "its own"}
    pairs = [make_pair("<b>red</b>", image), make_pair("blue", image), make_pair("green", other, tags)]
    stored = DocumentArray([*pairs, Document(text="words"), Document(uri="https://x.test/1.jpg")]).to_protobuf().docs
    made = as_indexed(list(stored))
    assert [each.WhichOneof("content") or each.uri for each in made] == ["blob", "blob", "text", "https://x.test/1.jpg"]
    assert made[0].tags["caption"] == "<b>red</b>"
    assert dict(made[1].tags) == {"price": 5.0, "caption": "its own"}, "tags of the Flow and of training stay behind"
    assert all(len(each.id) == 24 for each in made)
    assert not any(each.chunks for each in made)
    assert [each.id for each in as_indexed(list(stored))] == [each.id for each in made], (
        "indexed twice, it is there once"
    )
