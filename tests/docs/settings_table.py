"""The tables of settings in docs/settings.md: python -m tests.docs.settings_table prints them."""

import ast
import dataclasses
import inspect

from mri_hpc.rundir.recipes import DEFAULT, default_of
from mri_hpc.rundir.settings import JobSettings, TrainingSettings

TABLES = {"What is trained": TrainingSettings, "How it is run": JobSettings}


def table(settings: type) -> str:
    """A Markdown table: option, default, what it does; those that make a run another run are marked."""
    said = docstrings(settings)
    lines = ["| option | default | |", "|---|---|---|"]
    for field in dataclasses.fields(settings):
        option = f"`--{field.name.replace('_', '-')}`"
        mark = " †" if field.metadata["kind"] == "identity" else ""
        lines.append(f"| {option}{mark} | {shown(_default(settings, field))} | {said[field.name]} |")
    return "\n".join(lines)


def _default(settings: type, field: dataclasses.Field) -> object:
    """What launch takes where nothing is typed, for a new run."""
    return default_of(DEFAULT, field.name) if settings is TrainingSettings else field.default


def shown(default: object) -> str:
    """A default as it is typed; empty where there is none."""
    if default is None or default in ("", ()):
        return ""
    return ("on" if default else "off") if isinstance(default, bool) else f"`{default}`"


def docstrings(settings: type) -> dict[str, str]:
    """What stands under each field."""
    (body,) = ast.parse(inspect.getsource(settings)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split()).replace("|", "\\|")
    return found


if __name__ == "__main__":
    for title, settings in TABLES.items():
        print(f"**{title}**\n\n{table(settings)}\n")
