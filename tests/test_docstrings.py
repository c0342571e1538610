"""What docstrings say of defaults is what signatures say."""

import ast
import importlib
import inspect
import pkgutil
import re

import pytest

import sklearn_moe

DEFAULT = re.compile(r"^ *(?P<names>\w+(?:, \w+)*) : .*\bdefault=(?P<value>.+)$", re.MULTILINE)


def documented():
    """Return what the modules define, functions and classes, by where they are."""
    found = {}
    for module in pkgutil.walk_packages(sklearn_moe.__path__, "sklearn_moe."):
        if module.name.startswith("sklearn_moe.paper") or module.name.endswith("__main__"):
            continue
        for name, part in vars(importlib.import_module(module.name)).items():
            is_error = isinstance(part, type) and issubclass(part, BaseException)
            if getattr(part, "__module__", None) == module.name and callable(part) and not is_error:
                found[f"{module.name.removeprefix('sklearn_moe.')}.{name}"] = part
    return found


def literal(text):
    """Return the value of a default in a docstring, the text itself where it is no literal."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def pairs(part):
    """Yield the parameters of which docstring and signature both name a default."""
    parameters = inspect.signature(part).parameters
    for line in DEFAULT.finditer((part.__doc__ or "").replace("\\\n", "")):
        values = [line["value"]]
        names = line["names"].split(", ")
        if len(names) > 1:
            values = line["value"].split(", ")
        for name, value in zip(names, values, strict=len(names) == len(values)):
            default = parameters[name].default if name in parameters else inspect.Parameter.empty
            if default is not inspect.Parameter.empty:
                yield name, literal(value), default


PAIRS = [
    pytest.param(*pair, id=f"{where}-{pair[0]}")
    for where, part in documented().items()
    for pair in pairs(part)
    # A factory of a default, as of dataclasses, or a function is described in words.
    if isinstance(pair[1], str | int | float | tuple | bool | None) and not callable(pair[2])
]


@pytest.mark.parametrize(("name", "described", "default"), PAIRS)
def test_a_default_is_what_its_docstring_says(name, described, default):
    assert described == default
    assert isinstance(described, bool) == isinstance(default, bool)


def test_there_are_defaults_to_compare():
    assert len(PAIRS) > 200
