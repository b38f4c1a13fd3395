"""open_clip without timm, transformers and torch's compiler, until a model needs them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import open_clip
import pytest

PROGRAM = """
import json, sys, torch
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import text_features
from finetuner.models.clip_files import load_backbone
from finetuner.models.lean_open_clip import complete, import_lean

import_lean()
import_lean()

def late():
    return sorted({"timm", "transformers", "torch._dynamo", "torch._dynamo.utils"} & sys.modules.keys())

found = {}
mini = load_backbone(find_backbone("clip-mini"))
text_features(mini.network, mini.tokenizer(["a red dress"]))
mini.network.encode_image(torch.zeros(1, 3, *mini.network.visual.image_size))
import open_clip
kept = open_clip.model.TimmModel, open_clip.model.HFTextEncoder
complete({"vision_cfg": {}, "text_cfg": {}})
found["of clip-mini"] = late()

text = {"width": 16, "heads": 2, "layers": 1, "vocab_size": 99, "context_length": 8}
vision = {"timm_model_name": "test_vit", "image_size": 160, "timm_proj": "mlp"}
complete({"vision_cfg": vision, "text_cfg": text})
network = open_clip.model.CustomTextCLIP(16, vision, text).eval()
found["timm"] = list(network.encode_image(torch.zeros(1, 3, 160, 160)).shape)

complete({"vision_cfg": {}, "text_cfg": {"hf_model_name": "xlm-roberta-base"}})
from transformers import XLMRobertaConfig
config = XLMRobertaConfig(
    vocab_size=99, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, pad_token_id=1
)
tower = open_clip.model.HFTextEncoder("", 8, config, pooler_type="cls_pooler", proj_type="mlp").eval()
found["transformers"] = list(tower(torch.tensor([[3, 4, 1]])).shape)

from torchvision.ops.roi_align import is_compile_supported
found["compiler"] = [is_compile_supported("cpu"), sys.modules["torch._dynamo.utils"].is_compile_supported("cpu")]
found["classes are kept"] = kept == (open_clip.timm_model.TimmModel, open_clip.hf_model.HFTextEncoder)
found["names"] = {name: sorted(vars(getattr(open_clip, name))) for name in ("timm_model", "hf_model")}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], stdout=subprocess.PIPE, timeout=250, check=True
    )
    loaded: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return loaded


pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_clip_mini_needs_none_of_them(found: dict[str, Any]) -> None:
    assert found["of clip-mini"] == []


def test_a_tower_of_timm_or_transformers_is_built_when_they_are_there(found: dict[str, Any]) -> None:
    assert found["timm"] == [1, 16]
    assert found["transformers"] == [1, 8]
    assert found["classes are kept"]


def test_torchvision_asks_the_real_compiler(found: dict[str, Any]) -> None:
    asked, compiler = found["compiler"]
    assert asked == compiler


@pytest.mark.parametrize("module", ["timm_model", "hf_model"])
def test_its_modules_have_the_names_of_a_whole_import(found: dict[str, Any], module: str) -> None:
    assert found["names"][module] == sorted(vars(getattr(open_clip, module)))
