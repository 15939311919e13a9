"""Modules that are left out of a start: they take most of what a rank imports beside torch itself.

torchvision imports torch's compiler for a function that tells whether it is there; each optimizer and DDP
import it to keep it out of themselves, and deterministic mode to set one of its switches. Nothing here
compiles, reads torchvision's data sets, or writes ONNX. What stands in for these modules answers that much;
whoever asks for more gets the real ones, which are imported then.
"""

import importlib
import importlib.abc
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

COMPILER, UTILS, RULES = "torch._dynamo", "torch._dynamo.utils", "torch._dynamo.trace_rules"
BACK_END, SWITCHES = "torch._inductor", "torch._inductor.config"
DATA_SETS, ONNX = "torchvision.datasets", "torchvision.ops._register_onnx_ops"


def leave_out() -> None:
    """Let these modules be imported only once they are needed; for a process without them so far."""
    if sys.modules.keys() & ANSWERS:
        return
    for name, answers in ANSWERS.items():
        stand_in = _StandIn(name)
        vars(stand_in).update(__path__=[], __spec__=ModuleSpec(name, None, is_package=True), **answers)
        sys.modules[name] = stand_in
        package, _, module = name.rpartition(".")
        if package in ANSWERS:
            vars(sys.modules[package])[module] = stand_in
    sys.meta_path.insert(0, _Finder())


def are_left_out() -> bool:
    """Tell whether none of them was needed so far."""
    return all(isinstance(sys.modules.get(name), _StandIn) for name in ANSWERS)


class _StandIn(ModuleType):
    """A module, as far as training asks for it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # Whoever looks over all modules asks each of them for these.
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules within those that are left out, as the real ones."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.rpartition(".")[0] in ANSWERS else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _real(spec.name)

    def exec_module(self, _module: ModuleType) -> None:
        pass


def _real(name: str) -> ModuleType:
    """Import a module, when all of them are left out no more."""
    switched = {}
    for stood_in, answers in ANSWERS.items():
        if isinstance(module := sys.modules.get(stood_in), _StandIn):
            del sys.modules[stood_in]
            switched[stood_in] = {
                name: value
                for name, value in vars(module).items()
                if not (name.startswith("__") or name in answers or isinstance(value, ModuleType))
            }
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    real = importlib.import_module(name)
    for module_name, values in switched.items():
        for attribute, value in values.items():
            setattr(importlib.import_module(module_name), attribute, value)
    return real


def _do_nothing() -> None:
    """Break no graph, empty no cache, and register nothing, where there is none of these."""


def _as_it_is(function: Callable[..., Any] | None = None, *_how: object, **_more: object) -> Any:
    """Return a function that the compiler is to keep out of, as it is; without one, what does so."""
    return _as_it_is if function is None else function


def _is_compile_supported(device: Any) -> Any:
    return _real(UTILS).is_compile_supported(device)


def _mode_of_ddp() -> str:
    """Return what the compiler's own settings say by default: of interest to what is compiled alone."""
    return "ddp_optimizer"


ANSWERS: Mapping[str, Mapping[str, Any]] = {
    COMPILER: {"graph_break": _do_nothing, "disable": _as_it_is},
    UTILS: {"is_compile_supported": _is_compile_supported, "get_optimize_ddp_mode": _mode_of_ddp},
    RULES: {"clear_lru_cache": _do_nothing},
    BACK_END: {},
    SWITCHES: {},
    DATA_SETS: {},
    ONNX: {"_register_custom_op": _do_nothing},
}
"""Module → what stands in for it answers without being asked for more; packages before what is in them.

What is set in one meanwhile is set in the real one, once that is there.
"""
