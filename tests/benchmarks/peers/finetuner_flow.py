"""Our encoder rooms for serve_speed.py: FOLDER PORT BATCH KINDS [SETTINGS as JSON], kinds with commas between."""

import json
import sys
from pathlib import Path

from jina import Flow

folder, port, batch, kinds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(",")
settings = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
rooms = {"image": "vision_encoder", "text": "text_encoder"}
uses_with = {"workspace_url": folder, "backbone": "ViT-B-32::random.pt", "threads": 1, "batch_size": batch, **settings}
flow = Flow(port=port)
for kind in kinds:
    config = Path(__file__).parents[3] / "executors" / rooms[kind] / "config.yml"
    flow = flow.add(uses=str(config), uses_with=uses_with)
with flow:
    flow.block()
