"""clip-server 0.8.3 with a checkpoint from this disk, for serve_speed.py: FOLDER PORT BATCH KIND, in its own venv."""

import sys

from clip_server.executors.clip_torch import CLIPEncoder
from clip_server.model import openclip_model
from jina import Flow

folder, port, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# The only change: it knows its models by address, and this one has none.
openclip_model.get_model_url_md5 = lambda name: ("", "")
openclip_model.download_model = lambda *_, **__: f"{folder}/weights/random.pt"
flow = Flow(port=port).add(
    uses=CLIPEncoder, uses_with={"name": "ViT-B-32::laion2b_e16", "device": "cpu", "minibatch_size": batch}
)
with flow:
    flow.block()
