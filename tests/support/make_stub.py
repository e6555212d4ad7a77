# SPDX-License-Identifier: Apache-2.0
"""Write `sstfill/accessor.pyi`, the signatures of the generated accessor methods for editors.

``python tests/support/make_stub.py`` writes it; `tests/test_accessor.py` checks that it is current.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import sstfill
from sstfill import accessor

STUB = Path(accessor.__file__).with_suffix(".pyi")
WIDTH = 100  # of a line, as in pyproject.toml
HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# Written by tests/support/make_stub.py from the dataclasses of the methods; do not edit.
"""


def text() -> str:
    """Return the stub of the accessors as they are."""
    names: set[str] = set()
    bodies = []
    for cls in (accessor.DatasetGapfill, accessor.DataArrayGapfill):
        data = "xr.DataArray" if cls is accessor.DataArrayGapfill else "xr.Dataset"
        lines = [f"class {cls.__name__}:", f"    def __init__(self, data: {data}) -> None: ..."]
        for name, function in methods(cls):
            signature = inspect.signature(function)
            lines += definition(name, signature)
            names |= used(signature)
        lines += ["    def __getattr__(self, name: str) -> Any: ...  # methods of other packages"]
        bodies.append("\n".join(lines))
    return HEAD + imports(names | {"Any", "xr"}) + "\n\n" + "\n\n".join(bodies) + "\n"


def methods(cls: type) -> Iterator[tuple[str, object]]:
    """Public methods, without those that other packages have registered."""
    for name, function in inspect.getmembers(cls, inspect.isfunction):
        method = sstfill.METHODS.get(name)
        if not name.startswith("_") and (
            method is None or method.__module__.startswith("sstfill.")
        ):
            yield name, function


def definition(name: str, signature: inspect.Signature) -> list[str]:
    """Lay out one definition as ``ruff format`` does."""
    words = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        word = parameter.name
        if parameter.name != "self":
            word += f": {parameter.annotation}".replace("'", '"')
        if parameter.default is not parameter.empty:
            word += f" = {literal(parameter.default)}"
        words.append(word)
    end = f") -> {signature.return_annotation}: ..."
    first = f"    def {name}("
    one_line = first + ", ".join(words) + end
    if len(one_line) <= WIDTH:
        return [one_line]
    inner = " " * 8 + ", ".join(words)
    if len(inner) <= WIDTH:
        return [first, inner, "    " + end]
    return [first, *(f"        {word}," for word in words), "    " + end]


def literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def used(signature: inspect.Signature) -> set[str]:
    """Names that the annotations of a signature refer to."""
    annotations = [p.annotation for p in signature.parameters.values() if p.name != "self"]
    found: set[str] = set()
    for annotation in [*annotations, signature.return_annotation]:
        nodes = ast.walk(ast.parse(annotation, mode="eval"))
        found |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return found - set(vars(builtins))


def imports(names: set[str]) -> str:
    """Import statements for names, read from the modules that declare the parameters."""
    sources = [sstfill.fill, sstfill.score, sstfill.train, sstfill.TrainOptions]
    sources += [sstfill.plot.picture, sstfill.plot.members]
    sources += [accessor.describe, accessor.dineof_modes, accessor.write_report]
    sources += sstfill.METHODS.values()
    known: dict[str, tuple[str, str]] = {"Any": ("typing", "Any")}
    for module in sorted({source.__module__ for source in sources}):
        if module.startswith("sstfill."):
            known |= declared(module)
    plain = sorted(f"import {known[n][0]} as {n}" for n in names if not known[n][1])
    by_module: dict[str, set[str]] = {}
    for name in names:
        module, original = known[name]
        if original:
            by_module.setdefault(module, set()).add(original)
    sections: dict[int, list[str]] = {0: [], 1: plain, 2: []}
    for module, members in sorted(by_module.items()):
        root = module.partition(".")[0]
        section = 2 if root == "sstfill" else 0 if root in sys.stdlib_module_names else 1
        sections[section].append(f"from {module} import {', '.join(sorted(members))}")
    return "\n\n".join("\n".join(lines) for lines in sections.values() if lines)


def declared(module: str) -> dict[str, tuple[str, str]]:
    """Where each name at the top of a module comes from: a module, and the name in it if any."""
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(ast.parse(Path(str(sys.modules[module].__file__)).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {a.name: (node.module, a.name) for a in node.names if a.asname is None}
        elif isinstance(node, ast.Import):
            found |= {a.asname: (a.name, "") for a in node.names if a.asname is not None}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, (module, node.targets[0].id))
        elif isinstance(node, ast.ClassDef):
            found.setdefault(node.name, (module, node.name))
    return found


if __name__ == "__main__":
    STUB.write_text(text(), "utf-8")
