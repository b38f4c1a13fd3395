"""The folder of a SentenceTransformer, put together from modules that sentence-transformers has (5.4 and later)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CLASSES = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Router": "sentence_transformers.base.modules.router.Router",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "CLIPModel": "sentence_transformers.models.CLIPModel",  # the name in versions before 5.4, too
    "Normalize": "sentence_transformers.models.Normalize",
}
ACTIVATIONS = {
    "Identity": "torch.nn.modules.linear.Identity",
    "ReLU": "torch.nn.modules.activation.ReLU",
    "GELU": "torch.nn.modules.activation.GELU",
}
BY_PILLOW = {"backend": "pil"}
"""Options of transformers' image processors: they resize as we do, by Pillow and not by torchvision."""


@dataclass(frozen=True)
class Module:
    """One module: a key of CLASSES, and what writes its files into its folder."""

    kind: str
    write: Callable[[Path], None]


@dataclass(frozen=True)
class Layer:
    """A linear layer with an activation. It is computed here, and written as a Dense module."""

    weight: torch.Tensor
    """(outputs, inputs) float32."""
    bias: torch.Tensor | None = None
    """(outputs,) float32."""
    activation: str = "Identity"
    """A key of ACTIVATIONS."""

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (batch, outputs) of (batch, inputs)."""
        import torch

        activation: torch.nn.Module = getattr(torch.nn, self.activation)()
        outputs: torch.Tensor = activation(torch.nn.functional.linear(inputs, self.weight, self.bias))
        return outputs

    @property
    def module(self) -> Module:
        """The layer as a module."""
        return Module("Dense", self._write)

    def _write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        outputs, inputs = self.weight.shape
        config = {
            "in_features": inputs,
            "out_features": outputs,
            "bias": self.bias is not None,
            "activation_function": ACTIVATIONS[self.activation],
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        state = {"linear.weight": self.weight} | ({} if self.bias is None else {"linear.bias": self.bias})
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, folder / WEIGHTS_FILE)


WEIGHTS_FILE = "model.safetensors"
NORMALIZE = Module("Normalize", lambda folder: None)


def transformer(
    write: Callable[[Path], Any], methods: Mapping[str, tuple[str, str]], output: str, **options: Mapping[str, Any]
) -> Module:
    """Return a Transformer module.

    Args:
        write: writes a model of transformers with its tokenizer or image processor.
        methods: 'text' or 'image' -> a method of the model, and the name of the tensor in its output.
        output: 'token_embeddings' or 'sentence_embedding', the name of that tensor for the next module.
        options: `model_kwargs` and `processor_kwargs`, with which both are loaded, and `processing_kwargs`, with which
            the tokenizer is called.
    """
    config = {
        "transformer_task": "feature-extraction",
        "modality_config": {
            kind: {"method": method, "method_output_name": name} for kind, (method, name) in methods.items()
        },
        "module_output_name": output,
        **options,
    }
    return Module("Transformer", partial(_write_transformer, write, config))


def clip_model(write: Callable[[Path], Any]) -> Module:
    """Return the module of a CLIPModel, which versions before 5.4 have, too."""
    return Module("CLIPModel", partial(_write_transformer, write, {"processor_kwargs": BY_PILLOW}))


def pooling(dim: int, mode: str) -> Module:
    """Return the module that pools token embeddings of `dim` numbers: by their 'mean', or the first, 'cls'."""
    config = {"embedding_dimension": dim, "pooling_mode": mode, "include_prompt": True}
    return Module("Pooling", lambda folder: _write_json(folder / "config.json", config))


def router(routes: Mapping[str, Sequence[Module]]) -> Module:
    """Return the module that sends 'text' and 'image' through modules of their own."""
    return Module("Router", partial(_write_router, routes))


def write_modules(folder: Path, modules: Sequence[Module]) -> None:
    """Write modules, of which each reads what the one before gives, as a SentenceTransformer.

    Args:
        folder: exists.
        modules: at least one.
    """
    listed = []
    for index, module in enumerate(modules):
        name = f"{index}_{module.kind}"
        (folder / name).mkdir()
        module.write(folder / name)
        listed.append({"idx": index, "name": str(index), "path": name, "type": CLASSES[module.kind]})
    _write_json(folder / "modules.json", listed)
    settings: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write_json(folder / "config_sentence_transformers.json", settings)


def _write_transformer(write: Callable[[Path], Any], config: Mapping[str, Any], folder: Path) -> None:
    write(folder)
    _write_json(folder / "sentence_bert_config.json", config)


def _write_router(routes: Mapping[str, Sequence[Module]], folder: Path) -> None:
    types: dict[str, str] = {}
    structure: dict[str, list[str]] = {}
    for route, modules in routes.items():
        for index, module in enumerate(modules):
            name = f"{route}_{index}_{module.kind}"
            (folder / name).mkdir()
            module.write(folder / name)
            types[name] = CLASSES[module.kind]
            structure.setdefault(route, []).append(name)
    parameters = {"default_route": next(iter(routes)), "allow_empty_key": True, "route_mappings": {}}
    _write_json(folder / "router_config.json", {"types": types, "structure": structure, "parameters": parameters})


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1))
