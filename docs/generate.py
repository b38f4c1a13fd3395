"""Writes the tables of the documentation from the code, so that each fact has one place.

mkdocs calls `on_page_markdown` for each page. A line such as `<!-- table: fields package.module.Class -->` becomes a
table; an unknown table or class fails the build.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any, get_type_hints

import typer

from finetuner.config.described import docstrings, of_body

MARKER = re.compile(r"^<!-- table: (\w+)(?: (\S+))? -->$", re.MULTILINE)
ARGUMENT = re.compile(r"^(\w+): (.*?)(?=^\w+: |\Z)", re.MULTILINE | re.DOTALL)
# Names in docstrings -> the page that describes them.
REFERENCES = {
    "`RunConfig`": "[the configuration of a run](training.md#the-configuration-of-a-run)",
    "`RunConfig.scheduler_options`": "[the configuration of a run](training.md#the-configuration-of-a-run)",
    "`TrainingOptions`": "[`training_options`](training.md#training_options)",
    "`list_recipes`": "[recipes](training.md#recipes)",
    "`recipes`": "[recipes](training.md#recipes)",
    "`HardNegatives`": "[hard negatives](training.md#hard-negatives)",
    "`NearDuplicates`": "[near duplicates](training.md#near-duplicates)",
    "`MetricConfig`": "[losses for labelled images](training.md#losses-for-labelled-images)",
    "`losses.default_loss`": "`loss` of [`fit`](training.md#arguments-of-fit)",
    "`LOSSES`": "[losses](training.md#losses-for-labelled-images)",
    "`METRIC_LOSSES`": "[the losses](training.md#losses-for-labelled-images)",
    "`MINERS`": "[the miners](training.md#miners)",
    "`OPTIMIZERS`": "[the optimizers](training.md#optimizers)",
    "`optimizer_config`": "[optimizers](training.md#optimizers)",
    "`optimizer_config.OPTIMIZER_OPTIONS`": "[optimizers](training.md#optimizers)",
    "`image_model.pooling_of`": "[the pooler](training.md#the-pooler-of-an-image-model)",
    "`finetuner.callback`": "[callbacks](callbacks.md)",
    "`BestModelCheckpoint`": "[`BestModelCheckpoint`](callbacks.md#bestmodelcheckpoint)",
    "`WandBLogger`": "[`WandBLogger`](callbacks.md#wandblogger)",
    "`backbones`": "[the models](models.md#models-by-name)",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Return a page with its tables."""
    return MARKER.sub(lambda match: TABLES[match[1]](*match.groups()[1:]), markdown)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; each row has one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(" ".join(cell.split()) for cell in line) + " |" for line in lines)


def fields_table(path: str) -> str:
    """Return the fields of a dataclass: name, type, default and its docstring. Groups of fields are left out."""
    kind = _imported(path)
    described = {name: text for each in reversed(kind.__mro__[:-1]) for name, text in docstrings(each).items()}
    hints = get_type_hints(kind)
    rows = [
        (f"`{entry.name}`", _type(entry.type), _default(entry), _linked(described.get(entry.name, "")))
        for entry in fields(kind)
        if not is_dataclass(hints[entry.name])
    ]
    return table(("name", "type", "default", "meaning"), rows)


def arguments_table(path: str) -> str:
    """Return the arguments of a function: name, type, default and the text of its docstring."""
    function = _imported(path)
    text = re.search(r"^Args:\n(.*?)\n\n", inspect.getdoc(function) or "", re.MULTILINE | re.DOTALL)
    assert text is not None, path
    described = dict(ARGUMENT.findall(textwrap.dedent(text[1])))
    rows = []
    for name, parameter in inspect.signature(function).parameters.items():
        default = "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"
        rows.append((f"`{name}`", _type(parameter.annotation), default or "required", _linked(described[name])))
    return table(("name", "type", "default", "meaning"), rows)


def options_table(path: str) -> str:
    """Return a mapping of name -> option -> default, or range of values."""
    return table(
        ("name", "options"),
        [
            (f"`{name}`", ", ".join(f"`{option}`{_rule(rule)}" for option, rule in given.items()))
            for name, given in _imported(path).items()
        ],
    )


def records_table(path: str) -> str:
    """Return a sequence of mappings with the same keys."""
    rows = _imported(path)
    return table(tuple(rows[0]), [[str(value) for value in row.values()] for row in rows])


def models_table(_: None) -> str:
    """Return the rows of the backbone table."""
    from finetuner.models.rows import ROWS

    return table(
        ("name", "also called", "task", "dim", "GB", "licence", "languages", "zero-shot", "source", ""),
        [
            (
                f"`{row.name}`",
                ", ".join(f"`{alias}`" for alias in row.aliases),
                row.task,
                str(row.output_dim),
                f"{row.size_gb:g}",
                row.licence,
                row.languages,
                f"{row.zero_shot:.1%}" if row.zero_shot else "",
                row.source,
                row.description,
            )
            for row in ROWS
        ],
    )


def rest_table(under: str) -> str:
    """Return the requests of `/openapi.json` below a path, with the role that each needs. '/' is all the others."""
    from finetuner.executors.gateway.access.roles import of_page

    rows = []
    for path, methods in _openapi()["paths"].items():
        group = next((prefix for prefix in ("/v1/", "/api/v1/", "/v2/") if path.startswith(prefix)), "/")
        for method, operation in methods.items() if group == under else ():
            role = of_page(method.upper(), path)
            needed = "that of the endpoint" if "{endpoint}" in path else "none" if role is None else f"`{role}`"
            rows.append((method.upper(), f"`{path}`", needed, operation["summary"]))
    return table(("method", "path", "role", ""), rows)


def endpoints_table(_: None) -> str:
    """Return the Flow's endpoints with the role that each needs."""
    from finetuner.executors.gateway.access.roles import ENDPOINTS

    by_role: dict[str, list[str]] = {}
    for endpoint, role in ENDPOINTS.items():
        by_role.setdefault(str(role), []).append(f"`{endpoint}`")
    return table(("role", "endpoints"), [(f"`{role}`", ", ".join(names)) for role, names in by_role.items()])


def commands_table(_: None) -> str:
    """Return a section for each command of `finetuner`."""
    from finetuner.cli.main import app

    return "\n\n".join(_command("finetuner", typer.main.get_command(app)))


def environment_table(_: None) -> str:
    """Return the environment variables that users set."""
    from finetuner.contract import environment

    source = inspect.getsource(environment).partition("# Set by our own processes.")[0]
    described = of_body(ast.parse(source).body)
    return table(
        ("variable", "meaning"), [(f"`{getattr(environment, name)}`", text) for name, text in described.items()]
    )


def goals_table(_: None) -> str:
    """Return the goals of tuned models on the benchmark sets."""
    from finetuner.benchmark.table import GOALS

    return table(
        ("set", "model", "goals"),
        [
            (name, f"{architecture}, {tag}", ", ".join(f"`{metric}` {value:g}" for metric, value in goal.items()))
            for (name, architecture, tag), goal in GOALS.items()
        ],
    )


TABLES: Mapping[str, Callable[..., str]] = {
    "fields": fields_table,
    "arguments": arguments_table,
    "options": options_table,
    "records": records_table,
    "models": models_table,
    "rest": rest_table,
    "endpoints": endpoints_table,
    "commands": commands_table,
    "environment": environment_table,
    "goals": goals_table,
}


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _type(annotation: object) -> str:
    return f"`{annotation}`".replace("Mapping[str, Any]", "dict").replace("Sequence[Mapping[str, Any]]", "list")


def _default(entry: Field[Any]) -> str:
    if entry.default is not MISSING:
        return f"`{entry.default!r}`"
    return "required" if entry.default_factory is MISSING else f"`{entry.default_factory()!r}`"


def _rule(rule: object) -> str:
    if isinstance(rule, tuple) and isinstance(rule[0], str):
        return " " + ", ".join(f"'{name}'" for name in rule)
    if isinstance(rule, tuple):
        low_high = rule if isinstance(rule[0], tuple) else (rule,)
        return " " + ", ".join(f"[{low:g}, {high:g}]" for low, high in low_high)
    return " true or false" if rule is None else f" = {rule!r}"


def _linked(text: str) -> str:
    return re.sub(r"`[\w.]+`", lambda match: REFERENCES.get(match[0], match[0]), text)


@cache
def _openapi() -> Any:
    """Return the gateway's OpenAPI document. No request is answered, so its app needs neither rooms nor tokens."""
    from finetuner.executors.gateway.http_app import build_app

    return build_app(SimpleNamespace(metrics=None), None).openapi()  # type: ignore[arg-type]


def _command(name: str, command: Any) -> Iterator[str]:
    if commands := getattr(command, "commands", None):
        for word, below in commands.items():
            yield from _command(f"{name} {word}", below)
        return
    words = [
        parameter.human_readable_name.upper() for parameter in command.params if parameter.param_type_name == "argument"
    ]
    yield f"## `{' '.join([name, *words])}`"
    yield inspect.cleandoc(command.help or "")
    rows = [
        (
            ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts)),
            "" if parameter.default in (None, "") or callable(parameter.default) else f"`{parameter.default}`",
            getattr(parameter, "help", "") or "",
        )
        for parameter in command.params
    ]
    if rows:
        yield table(("option", "default", ""), rows)
