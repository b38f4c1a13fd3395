"""Imports open_clip without the packages that only some of its models need: in one second instead of seven.

open_clip imports timm and transformers where they are installed, and timm imports torch's compiler, of which
torchvision takes a function. None of open_clip's own architectures needs them. `complete` adds what a model needs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any

LATE = ("timm", "transformers")
COMPILER = "torch._dynamo.utils"


def import_lean() -> None:
    """Import open_clip as if LATE were not installed. An import that came before stays as it is.

    It is for a process of a Flow, at its start: no other thread may import at the same time, and open_clip's own
    functions do not build models with a part of LATE until `complete` was called.
    """
    if "open_clip" in sys.modules:
        return
    absent: dict[str, Any] = {name: None for name in LATE if name not in sys.modules}
    if COMPILER not in sys.modules:
        absent[COMPILER] = _LateCompiler(COMPILER)
    sys.modules.update(absent)
    try:
        import_module("open_clip")
    finally:
        for name, value in absent.items():
            if sys.modules.get(name) is value:
                del sys.modules[name]


def complete(config: Mapping[str, Any]) -> None:
    """Add to open_clip what `import_lean` has left out, if a model needs it.

    Args:
        config: open_clip's `model_cfg`.
    """
    if config["vision_cfg"].get("timm_model_name"):
        _complete("open_clip.timm_model", "timm")
    if config["text_cfg"].get("hf_model_name"):
        _complete("open_clip.hf_model", "transformers")


def _complete(name: str, package: str) -> None:
    """Give a module that was imported without a package the names that it has with it. Its own classes stay."""
    module = import_module(name)
    spec = module.__spec__
    if getattr(module, package) is not None or spec is None or spec.loader is None:
        return
    import_module(package)
    whole = module_from_spec(spec)
    spec.loader.exec_module(whole)
    foreign = {key: value for key, value in vars(whole).items() if getattr(value, "__module__", None) != name}
    vars(module).update({key: value for key, value in foreign.items() if not key.startswith("__")})


class _LateCompiler(ModuleType):
    """Stands for the compiler's module while others take names of it; its functions import it when they are called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "is_compile_supported":
            return lambda *arguments: getattr(import_module(COMPILER), name)(*arguments)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)
