"""Script that writes docs/configuration-reference.md from the code (`make reference`).

A key's type, bounds and default come from `serve_app.graph_args` and `serve_app.settings`, its sentence from the
"Attributes:" of the class that declares it. A test compares the page with the code.
"""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from serve_app.graph_args import GraphArgs
from serve_app.settings import Settings, _variable, service_url

PAGE = Path(__file__).with_name("configuration-reference.md")

_HOME = "/home/somebody"
_TYPES = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text", "null": "none"}
_FORMATS = {"path": "path", "password": "text, secret", "uri": "URL"}
_BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}
_HEAD = """# Configuration reference

`make reference` writes this page from the code; a test compares the two. [configuration.md](configuration.md) explains
how the parts fit together.

## `args:` of a config file

The keys stand under `applications: - args:`. A key that is not listed here is an error.
"""
_ENVIRONMENT = """## Environment variables

An empty value counts as not set. `<state dir>` is the value of `SERVE_APP_STATE_DIR`.
"""


def render() -> str:
    """Return the page."""
    schema = TypeAdapter(GraphArgs).json_schema()
    parts = [_HEAD]
    tables: dict[str, list[str]] = {}  # table → sections that share it
    introductions: dict[str, str] = {}
    for path, section, keys in _sections(GraphArgs(), schema, schema, ""):
        sentences = _sentences(type(section))
        rows = [(key, *keys[key], sentences.get(key, "")) for key in keys]
        table = _table(("key", "type", "default", "meaning"), rows)
        tables.setdefault(table, []).append(path)
        introductions[table] = _introduction(type(section))
    for table, paths in tables.items():
        parts.append("### " + ", ".join(f"`{path}`" for path in paths) + "\n")
        parts.append(f"{introductions[table]}\n" if introductions[table] else "")
        parts.append(table)
    parts.append(_ENVIRONMENT)
    parts.append(_table(("variable", "type", "default", "meaning"), _environment()))
    return "\n".join(part for part in parts if part)


def missing_sentences() -> list[str]:
    """Return the keys and variables that their class does not describe."""
    return re.findall(r"^\| `([^`]+)` \|.*\|  \|$", render(), re.M)


def _sections(value: Any, node: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield each group of keys: its path, its defaults, and by key the type and the default as text."""
    properties = _resolved(node, root)["properties"]
    keys, groups = {}, []
    for name in _names(value):
        default = getattr(value, name)
        inner = f"{path}.{name}" if path else name
        if is_dataclass(default) or isinstance(default, BaseModel):
            groups.append((inner, default, properties[name]))
        else:
            keys[name] = (_type(properties[name], root), _shown(default))
    if keys:
        yield path, value, keys
    for inner, default, below in groups:
        yield from _sections(default, below, root, inner)


def _environment() -> Iterator[tuple[str, str, str, str]]:
    schema = Settings.model_json_schema()
    defaults = Settings.from_environment({"HOME": _HOME})
    state_dir = _shown(defaults.state_dir).strip("`")
    sentences = _sentences(Settings)
    for name in Settings.model_fields:
        if name == "unknown_names":
            continue
        default = getattr(defaults, name)
        if hasattr(default, "get_secret_value"):
            default = default.get_secret_value()
        shown = _shown(default)
        if name == "state_dir":
            shown = f"`$XDG_STATE_HOME/serve_app`, else {shown}"
        else:
            shown = shown.replace(state_dir, "<state dir>")
        kind = _type(schema["properties"][name], schema).removesuffix(" or none")
        yield _variable(name), kind, shown, sentences.get(name, "")
    yield "SERVE_APP_URL", "text", _shown(service_url({})), "Where the command line finds the service."
    yield "SERVE_APP_API_KEY", "text", "", "API key that the command line and the Python client send."


def _resolved(node: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref") or (node["allOf"][0]["$ref"] if len(node.get("allOf", ())) == 1 else None)
    return root["$defs"][reference.rpartition("/")[2]] if reference else node


def _type(node: dict[str, Any], root: dict[str, Any]) -> str:
    node = _resolved(node, root)
    if "anyOf" in node:
        return " or ".join(dict.fromkeys(_type(each, root) for each in node["anyOf"]))
    if "enum" in node:
        return ", ".join(f"`{each}`" for each in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    if node.get("type") == "array":
        text = f"list of {_type(node['items'], root)}"
    elif node.get("type") == "object":
        text = f"map of text to {_type(node['additionalProperties'], root)}"
    else:
        text = _FORMATS.get(node.get("format", ""), "") or _TYPES[node["type"]]
    bounds = [_BOUNDS[key].format(node[key]) for key in _BOUNDS if key in node]
    return ", ".join([text, *bounds])


def _shown(value: Any) -> str:
    if value is None or value == () or value == [] or value == "" or value == {}:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(each) for each in value)
    text = str(value.value if isinstance(value, enum.Enum) else value)
    return f"`{text.replace(_HOME, '~')}`"


def _names(value: Any) -> list[str]:
    return list(type(value).model_fields) if isinstance(value, BaseModel) else [field.name for field in fields(value)]


def _introduction(cls: type) -> str:
    document = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    return "" if document.startswith(f"{cls.__name__}(") else document.partition("\n\n")[0]


def _sentences(cls: type) -> dict[str, str]:
    """Return what the "Attributes:" of a class and its bases say of each name."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        _, _, attributes = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")
        block = re.match(r"(?:(?: .*)?\n)*(?: .*)?", attributes)
        for names, text in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {5,}.*)*)", block.group(0) if block else "", re.M):
            for name in names.split(", "):
                found[name] = _sentence(" ".join(text.split()))
    return found


def _sentence(text: str) -> str:
    text = re.sub(r"docs/([\w/-]+\.md)", r"[\1](\1)", text)
    return text[:1].upper() + text[1:]


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head)]
    lines += [(f"`{row[0]}`", *(cell.replace("|", "\\|") for cell in row[1:])) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
