"""The backbone table. A new backbone is one row and one test.

A row without an architecture has weights in artifacts alone. With a `source`, `imports` makes such an artifact of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .backbone import Backbone, image_backbone

CLIP_MINI_FOLDER = Path(__file__).parent / "clip_mini"
RESULTS = "open_clip, docs/openclip_results.csv"  # at its commit f862f86


def _chinese_clip(size: str, hub: str, output_dim: int, network: str, size_gb: float) -> Backbone:
    """Return the row of a ChineseCLIPModel: `imports` makes an artifact of what the hub or a folder holds."""
    source = f"OFA-Sys/chinese-clip-vit-{hub}"
    return Backbone(
        f"chinese-clip-{size}",
        "",
        "",
        aliases=(source,),
        output_dim=output_dim,
        licence="MIT",
        description=f"Chinese-CLIP {network} by OFA-Sys, converted by fit",
        size_gb=size_gb,
        languages="Chinese",
        source=source,
    )


def _image(name: str, architecture: str, tag: str, output_dim: int, description: str, size_gb: float) -> Backbone:
    row = image_backbone(name, architecture, tag, output_dim, description)
    alias, source = architecture.removeprefix("tf_"), f"timm/{architecture}.{tag}"
    return replace(row, aliases=(alias,), licence="Apache-2.0", size_gb=size_gb, source=source)


IMPORTED = Backbone("imported-clip", "", "", description="A CLIP of another library, see `imports`")
IMPORTED_SIGLIP = replace(
    IMPORTED,
    name="imported-siglip",
    loss="SigLIPLoss",
    description="A SigLIP of transformers or open_clip, see `imports`",
)
PARTS = Backbone("clip-from-parts", "", "", learning_rate=5e-4, description="A CLIP from two towers, see `imports`")
IMPORTED_IMAGE = "imported-image"
"""IMPORTED, IMPORTED_SIGLIP, PARTS and IMPORTED_IMAGE::ARCH are the backbones of imported artifacts. They have no
weights of their own."""
ROWS = (
    Backbone(
        "clip-mini",
        "clip-mini",
        "",
        output_dim=128,
        learning_rate=5e-4,
        folder=CLIP_MINI_FOLDER,
        licence="Apache-2.0",
        description="Miniature CLIP, English and German, ships with the package",
        size_gb=0.02,
        languages="English, German",
        source="package",
    ),
    Backbone(
        "clip-base-en",
        "ViT-B-32",
        "openai",
        aliases=("openai/clip-vit-base-patch32",),
        output_dim=512,
        licence="MIT",
        description="CLIP ViT-B/32 by OpenAI, English",
        size_gb=0.61,
        languages="English",
        source="timm/vit_base_patch32_clip_224.openai",
        zero_shot=0.6332,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "clip-large-en",
        "ViT-L-14",
        "openai",
        aliases=("openai/clip-vit-large-patch14",),
        output_dim=768,
        licence="MIT",
        description="CLIP ViT-L/14 by OpenAI, English",
        size_gb=1.71,
        languages="English",
        source="timm/vit_large_patch14_clip_224.openai",
        zero_shot=0.7554,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "clip-base-multi",
        "xlm-roberta-base-ViT-B-32",
        "laion5b_s13b_b90k",
        aliases=("xlm-roberta-base-ViT-B-32::laion5b_s13b_b90k", "xlm-roberta-base-ViT-B-32#laion5b_s13b_b90k"),
        output_dim=512,
        licence="MIT",
        description="CLIP ViT-B/32 with XLM-RoBERTa by LAION, about 100 languages",
        size_gb=1.46,
        languages="about 100",
        source="laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k",
        zero_shot=0.6236,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "clip-huge-multi",
        "xlm-roberta-large-ViT-H-14",
        "frozen_laion5b_s13b_b90k",
        output_dim=1024,
        licence="MIT",
        description="CLIP ViT-H/14 with XLM-RoBERTa large by LAION, about 100 languages",
        size_gb=4.77,
        languages="about 100",
        source="laion/CLIP-ViT-H-14-frozen-xlm-roberta-large-laion5B-s13B-b90k",
        zero_shot=0.7695,
        zero_shot_source=RESULTS,
    ),
    # sizes by the numbers of weights in the README of OFA-Sys/Chinese-CLIP; licence of its code
    _chinese_clip("base", "base-patch16", 512, "ViT-B/16 with RoBERTa-wwm", 0.75),
    _chinese_clip("large", "large-patch14", 768, "ViT-L/14 with RoBERTa-wwm", 1.62),
    _chinese_clip("large-336", "large-patch14-336px", 768, "ViT-L/14 for 336 pixels with RoBERTa-wwm", 1.63),
    _chinese_clip("huge", "huge-patch14", 1024, "ViT-H/14 with RoBERTa-wwm large", 3.83),
    Backbone(
        "siglip-base",
        "ViT-B-16-SigLIP",
        "webli",
        output_dim=768,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP ViT-B/16 by Google, English",
        size_gb=0.81,
        languages="English",
        source="timm/ViT-B-16-SigLIP",
        zero_shot=0.7604,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "siglip-base-multi",
        "ViT-B-16-SigLIP-i18n-256",
        "webli",
        output_dim=768,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP ViT-B/16 for 256 pixels by Google, many languages",
        size_gb=1.48,
        languages="many",
        source="timm/ViT-B-16-SigLIP-i18n-256",
    ),
    Backbone(
        "siglip2-base",
        "ViT-B-16-SigLIP2",
        "webli",
        output_dim=768,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP 2 ViT-B/16 by Google, many languages",
        size_gb=1.5,
        languages="many",
        source="timm/ViT-B-16-SigLIP2",
    ),
    Backbone(
        "siglip2-so400m",
        "ViT-SO400M-16-SigLIP2-384",
        "webli",
        output_dim=1152,
        loss="SigLIPLoss",
        licence="Apache-2.0",
        description="SigLIP 2 SO400M/16 for 384 pixels by Google, many languages",
        size_gb=4.54,
        languages="many",
        source="timm/ViT-SO400M-16-SigLIP2-384",
    ),
    Backbone(
        "eva02-base",
        "EVA02-B-16",
        "merged2b_s8b_b131k",
        output_dim=512,
        licence="MIT",
        description="EVA02-CLIP ViT-B/16 by BAAI, English",
        size_gb=0.6,
        languages="English",
        source="timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
        zero_shot=0.7472,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "eva02-large",
        "EVA02-L-14",
        "merged2b_s4b_b131k",
        output_dim=768,
        licence="MIT",
        description="EVA02-CLIP ViT-L/14 by BAAI, English",
        size_gb=1.71,
        languages="English",
        source="timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k",
        zero_shot=0.7977,
        zero_shot_source=RESULTS,
    ),
    Backbone(
        "metaclip2-huge",
        "ViT-H-14-worldwide-quickgelu",
        "metaclip2_worldwide",
        output_dim=1024,
        licence="CC-BY-NC-4.0",
        description="MetaCLIP 2 ViT-H/14 by Meta, many languages, not for commercial use",
        size_gb=7.43,
        languages="many",
        source="timm/vit_huge_patch14_clip_224.metaclip2_worldwide",
    ),
    _image("resnet-base", "resnet50", "a1_in1k", 2048, "ResNet-50, ImageNet", 0.09),
    _image("resnet-large", "resnet152", "a1_in1k", 2048, "ResNet-152, ImageNet", 0.23),
    _image("efficientnet-base", "efficientnet_b4", "ra2_in1k", 1792, "EfficientNet-B4, ImageNet", 0.07),
    _image("efficientnet-large", "tf_efficientnet_b7", "ra_in1k", 2560, "EfficientNet-B7, ImageNet", 0.26),
    _image("efficientnet-small", "efficientnet_b0", "ra_in1k", 1280, "EfficientNet-B0, ImageNet", 0.02),
)


# Text, mesh and vector backbones of the old package. They are outside the mission of CLIP and vision.
OTHER_MISSIONS = (
    "bert-base-en", "bert-base-cased", "bert-base-multi", "bert-base-multilingual-cased", "sbert-base-en",
    "sentence-transformers/msmarco-distilbert-base-v3", "distiluse-base-multi",
    "distiluse-base-multilingual-cased-v2", "jina-embedding-t-en-v1", "jina-embedding-s-en-v1",
    "jina-embedding-b-en-v1", "jina-embedding-l-en-v1", "pointnet-base", "pointnet++", "mlp",
)  # fmt: skip
# Models whose architecture is neither in open_clip nor in timm or transformers, by the rows that are nearest to them.
ELSEWHERE = {
    name: nearest
    for names, nearest in (
        (("jina-clip-v1", "jinaai/jina-clip-v1"), "siglip-base, eva02-base (English)"),
        (("jina-clip-v2", "jinaai/jina-clip-v2"), "siglip2-base, clip-base-multi (many languages)"),
    )
    for name in names
}
