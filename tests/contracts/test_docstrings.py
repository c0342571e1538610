"""Docstrings: defaults are what signatures say, sections are those of numpydoc."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections import ChainMap

import pytest

import sklearn_moe

DEFAULT = re.compile(r"^ *(?P<names>\w+(?:, \w+)*) : .*\bdefault=(?P<value>.+)$", re.MULTILINE)
# What numpydoc asks for and we do not: an example, a "See Also" and an extended summary for every
# name (EX01, SA01, ES01), a description of every "See Also" (SA04) and return value (RT03), no name
# for a sole return value (RT02), a docstring of what inherits one (GL08).
NOT_ASKED = {"EX01", "SA01", "SA04", "ES01", "GL08", "RT02", "RT03"}
# In these modules one line says what a method takes and returns, with the shapes, and a parameter
# such as `n_experts : int` needs no more words. So it is for the hooks of callbacks, which take
# what skorch hands them.
TERSE = ("sklearn_moe.nn", "sklearn_moe.optim", "sklearn_moe.paper")
IN_ONE_LINE = {"PR01", "PR07", "RT01"}


def modules():
    """Return the modules of the library but those of the paper, by name."""
    names = [module.name for module in pkgutil.walk_packages(sklearn_moe.__path__, "sklearn_moe.")]
    return {n: importlib.import_module(n) for n in names if not n.startswith("sklearn_moe.paper")}


def literal(text):
    """Return the value of a default in a docstring, the text itself where it is no literal."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def defaults(part):
    """Yield the parameters of which docstring and signature both name a default."""
    parameters = inspect.signature(part).parameters
    for line in DEFAULT.finditer((part.__doc__ or "").replace("\\\n", "")):
        names, values = line["names"].split(", "), [line["value"]]
        if len(names) > 1:
            values = line["value"].split(", ")
        for name, value in zip(names, values, strict=len(names) == len(values)):
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            if default is not inspect.Parameter.empty:
                yield name, literal(value), default


def test_defaults_are_what_docstrings_say():
    wrong, n_compared = [], 0
    for where, module in modules().items():
        for part in vars(module).values():
            is_error = isinstance(part, type) and issubclass(part, BaseException)
            if getattr(part, "__module__", None) != where or not callable(part) or is_error:
                continue
            for name, documented, default in defaults(part):
                # A factory of a default, as of dataclasses, or a function is described in words.
                if not callable(default) and not isinstance(documented, dict):
                    n_compared += 1
                    if documented != default or type(documented) is not type(default):
                        wrong.append(f"{where}.{part.__name__}: {name}={documented!r}, {default!r}")
    assert not wrong
    assert n_compared > 200


def public_parts(module):
    """Yield functions and classes of a module, and methods of these, inherited too, by name."""
    for name in module.__all__:
        part = getattr(module, name)
        if inspect.isclass(part) or inspect.isfunction(part):
            yield f"{module.__name__}.{name}", part
        bases = getattr(part, "__mro__", ())
        ours = [vars(base) for base in bases if base.__module__.startswith("sklearn_moe")]
        for method, member in ChainMap(*ours).items():
            is_routine = inspect.isroutine(member) or isinstance(member, property)
            # Optimizers take some methods from torch as they are.
            is_torchs = getattr(member, "__module__", "").startswith("torch")
            if not method.startswith("_") and is_routine and not is_torchs:
                yield f"{module.__name__}.{name}.{method}", member


def not_asked(name, part):
    codes = set(NOT_ASKED)
    if name.startswith(TERSE) or ".on_" in name:
        codes |= IN_ONE_LINE
    if dataclasses.is_dataclass(part):  # its fields are under "Attributes" where it is a result
        codes.add("PR01")
    return codes


def public_names():
    """Yield what users see of the library, by name."""
    names = [m.name for m in pkgutil.iter_modules(sklearn_moe.__path__)]
    public = ["sklearn_moe", *(f"sklearn_moe.{n}" for n in names if not n.startswith("_"))]
    assert len(public) > 8
    for module in public:
        yield from public_parts(importlib.import_module(module))


def test_docstrings_are_those_of_numpydoc():
    validate = pytest.importorskip("numpydoc.validate").validate
    found = [
        f"{name}: {code} {message}"
        for name, part in public_names()
        for code, message in validate(name)["errors"]
        if code not in not_asked(name, part)
    ]
    assert not found


def test_all_that_users_call_has_annotations():
    missing, n_seen = [], 0
    for name, part in public_names():
        function = inspect.unwrap(getattr(part, "fget", None) or getattr(part, "__func__", part))
        if name.startswith("sklearn_moe.paper") or not callable(function):
            continue
        is_class = isinstance(function, type)
        code = function.__init__ if is_class else function
        if not getattr(code, "__module__", "").startswith("sklearn_moe"):
            continue
        signature = inspect.signature(function)
        given = [(p.name, p.annotation) for p in signature.parameters.values()]
        given += [] if is_class else [("return", signature.return_annotation)]
        missing += [
            f"{name}: {n}" for n, a in given if a is signature.empty and n not in ("self", "cls")
        ]
        n_seen += 1
    assert not missing
    assert n_seen > 200
