"""A CLIP from EfficientNet-Lite0 and MiniLM is tuned on Tux Paint's stamps through the Flow, served and exported.

The towers and the stamps are fetched into a folder of the checkout, once, by the code of the benchmark of quality.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from docarray import Document, DocumentArray
from PIL import Image

import finetuner
from finetuner.flow.running_flow import RunningFlow
from tests.benchmarks.quality.stamps import read_stamps, text_model, vision_checkpoint

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_a_clip_of_real_towers_goes_the_whole_way(flow: RunningFlow, own_session: None, tmp_path: Path) -> None:
    import onnxruntime  # here, as every process of tests reads this file, and few run this test
    from sentence_transformers import SentenceTransformer

    finetuner.login(host=flow.host)
    FOLDER.mkdir(exist_ok=True)
    vision, text = vision_checkpoint(FOLDER), text_model(FOLDER)
    stamps = [pair for pair in read_stamps(FOLDER, "train") if pair.language == "en"][:24]
    pairs = DocumentArray(finetuner.make_pair(pair.text, pair.image) for pair in stamps)
    run = finetuner.fit(
        f"tf_efficientnet_lite0::{vision}+{text}",
        pairs,
        epochs=2,
        batch_size=8,
        training_options={"frozen": ["visual.trunk.", "text.transformer."]},
        wait=True,
    )
    assert (run.status()["status"], run.config["model"]) == ("FINISHED", "clip-from-parts")
    texts = [pair.text for pair in stamps[:3]]
    tuned = finetuner.get_model(run.artifact_id, select_model="clip-text")
    expected = finetuner.encode(tuned, texts)

    finetuner.index(DocumentArray([Document(id="first", text=texts[0])]), artifact=run.artifact_id)
    assert [match.id for match in finetuner.search(texts[0], artifact=run.artifact_id)[0].matches] == ["first"]
    finetuner.delete_documents("first")

    folder = Path(finetuner.export_artifact(run.artifact_id, "onnx", tmp_path / "out"))
    tokens = tuned.encoder.tokenizer(texts)  # type: ignore[union-attr]
    session = onnxruntime.InferenceSession(folder / "clip-text/model.onnx")
    (vectors,) = session.run(["embeddings"], {"tokens": tokens.numpy()})
    np.testing.assert_allclose(vectors, expected, atol=1e-4)

    sentences = SentenceTransformer(run.export("sentence-transformers", tmp_path / "sentences"))
    images = [Image.open(io.BytesIO(pair.image)).convert("RGB") for pair in stamps[:3]]
    own = finetuner.get_model(run.artifact_id, select_model="clip-vision").encoder.encode_images(images)
    np.testing.assert_allclose(sentences.encode(texts), expected, atol=1e-5)
    np.testing.assert_allclose(sentences.encode(images), own, atol=1e-5)
