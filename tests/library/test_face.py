"""What `import mri_hpc` gives: its names, their signatures, and that nothing heavy comes with it.

python -m tests.library.test_face writes down what there is now.
"""

import functools
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import mri_hpc

PROPERTIES = (property, functools.cached_property)
PINNED = Path(__file__).with_name("face.json")


def face() -> dict[str, dict[str, str]]:
    """Public names of the library, with the signatures of what they have."""
    found = {}
    for name in mri_hpc.__all__:
        kind = getattr(mri_hpc, name)
        if inspect.isclass(kind):
            found[name] = {
                member: "property" if isinstance(value, PROPERTIES) else _signature(kind, member)
                for member, value in sorted(vars(kind).items())
                if _is_public(member, value)
            }
        else:
            found[name] = {}
    return found


def _is_public(name, value) -> bool:
    shown = not name.startswith("_") or name in ("__init__", "__len__", "__getitem__", "__getitems__")
    return shown and (callable(value) or isinstance(value, (*PROPERTIES, classmethod)))


def _signature(kind, member) -> str:
    """Names, kinds and defaults; Python's versions write annotations, and functions, each in its own way."""
    signature = inspect.signature(getattr(kind, member))
    plain = [
        one.replace(annotation=one.empty, default=... if callable(one.default) else one.default)
        if one.default is not one.empty
        else one.replace(annotation=one.empty)
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))


def test_public_names_and_signatures_are_those_that_were_promised():
    found = json.dumps(face(), indent=1, sort_keys=True)
    assert found + "\n" == PINNED.read_text(encoding="utf-8"), (
        "the face has changed: users' scripts are written against it; where that is meant, say so in "
        f"CHANGELOG.md and run python -m tests.library.test_face, which writes {PINNED.name}:\n{found}"
    )


@pytest.mark.parametrize("name", ["Store", "Run"])
def test_the_face_is_lazy(name):
    code = (
        "import sys, mri_hpc\n"
        "assert not {'numpy', 'torch', 'h5py'} & set(sys.modules), 'import mri_hpc loads them'\n"
        f"mri_hpc.{name}\n"
        "sys.exit('torch is loaded' if 'torch' in sys.modules else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_mistyped_name_is_told_with_those_that_there_are():
    with pytest.raises(AttributeError, match="has no attribute 'Datset'; it has: Dataset, Loader, Run"):
        _ = mri_hpc.Datset


def test_every_public_member_says_what_it_does():
    for name in mri_hpc.__all__:
        kind = getattr(mri_hpc, name)
        if not inspect.isclass(kind):
            continue
        assert kind.__doc__
        for member in face()[name]:
            if not member.startswith("__") or member == "__getitem__":
                assert inspect.getdoc(getattr(kind, member)), f"{name}.{member} has no docstring"


if __name__ == "__main__":
    PINNED.write_text(json.dumps(face(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
