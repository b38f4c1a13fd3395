"""infinity-emb with a CLIP of ViT-B-32's size, for serve_speed.py: FOLDER PORT BATCH KIND, in its own venv."""

import gzip
import json
import os
import sys
from pathlib import Path

folder, port, batch = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
model = folder / "clip"
os.environ |= {"HF_HUB_OFFLINE": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}

from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast  # noqa: E402  # reads the environment

if not model.exists():  # weights of its own: transformers names and packs them otherwise
    CLIPModel(CLIPConfig(projection_dim=512)).save_pretrained(model)
    merges = gzip.decompress((folder / "bpe.txt.gz").read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in letters] + [chr(256 + number) for number in range(256 - len(letters))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (model / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(words)}))
    (model / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    tokenizer = CLIPTokenizerFast(str(model / "vocab.json"), str(model / "merges.txt"), model_max_length=77)
    CLIPProcessor(CLIPImageProcessor(), tokenizer).save_pretrained(model)
infinity = str(Path(sys.executable).with_name("infinity_emb"))
options = ["--device", "cpu", "--engine", "torch", "--dtype", "float32", "--batch-size", batch, "--port", port]
os.execv(infinity, [infinity, "v2", "--model-id", str(model), *options, "--no-model-warmup", "--no-bettertransformer"])
