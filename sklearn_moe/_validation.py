"""Arguments, choices and fitted estimators: what is wrong with one; registries; docstrings."""

import contextlib
import difflib
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import joblib
import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

if TYPE_CHECKING:
    from typing_extensions import Self

# A warning is about the code that calls these.
_LIBRARIES = (
    *(str(Path(path).parent) for path in (__file__, sklearn.__file__, joblib.__file__)),
    contextlib.__file__,  # of decorators
)
# Words of other libraries, or of another class of this one, for what is meant.
_OTHER_WORDS = {
    "n_experts": "n_components",
    "n_components": "n_experts",
    "alpha": "solver=SolverParams(weight_decay=...)",
    "weight_decay": "solver=SolverParams(weight_decay=...)",
    "hidden_layer_sizes": "expert_width",
    "lr": "learning_rate_init",
    "epochs": "max_iter",
    "top_k": "MoEClassifier(top_k=...)",
    "mse": "squared_error",
    "mae": "absolute_error",
}
_WARNINGS: ContextVar[set[str]] = ContextVar("warnings")


class Count(Interval):
    """Constraint of a parameter: integers from `low` on, and no bools, which Python counts too."""

    def __init__(self, low):
        super().__init__(Integral, low, None, closed="left")

    def is_satisfied_by(self, val):
        """Tell whether a value is one of them."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


def did_you_mean(name, names):
    """Return a question about the known name that is most like one, "" if none is."""
    other = _OTHER_WORDS.get(str(name), "")
    if other.split("=")[0] in names or other.startswith("MoE"):
        return f" Did you mean {other}?" if "(" in other else f" Did you mean {other!r}?"
    by_lower = {str(known).lower(): known for known in names}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]!r}?" if close else ""


class Names(StrOptions):
    """Constraint of a parameter: some names, sorted in messages."""

    def __str__(self):
        return f"a str among {sorted(self.options)}"


class HasNames(BaseEstimator):
    """Estimators, or parts of their parameters, that say which name was meant."""

    def __new__(cls, *args, **params):
        """Refuse a parameter that there is not."""
        names = cls._get_param_names()
        for name in params.keys() - {*names}:
            hint = did_you_mean(name, names)
            raise TypeError(f"{cls.__name__} has no parameter {name!r}.{hint}")
        return super().__new__(cls)

    def __init_subclass__(cls, **options):
        """Show the parameters of the constructor: Python 3.10 would show those of `__new__`."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            signature = inspect.signature(cls.__init__)
            parameters = [*signature.parameters.values()][1:]
            cls.__signature__ = signature.replace(parameters=parameters)

    def _validate_params(self):
        try:
            super()._validate_params()
        except InvalidParameterError as error:
            name = str(error).split("'")[1]
            options = [getattr(c, "options", ()) for c in self._parameter_constraints[name]]
            value = getattr(self, name)
            hint = did_you_mean(value, set().union(*options))
            if name == "estimator" and isinstance(value, Integral):
                hint = f" Did you mean n_components={value}?"
            raise InvalidParameterError(f"{error}{hint}") from None

    def set_params(self, **params: object) -> "Self":
        """Set parameters, those of a part by names such as `router__kind`.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : object
            The object itself.

        Raises
        ------
        ValueError
            If there is no such parameter.
        """
        try:
            return super().set_params(**params)
        except ValueError as error:
            found = re.match("Invalid parameter '(.*?)'.*?: ", str(error))
            # Of a part it has been said already.
            if found is None or "Did you mean" in str(error):
                raise
            known = re.findall("'(.*?)'", str(error)[found.end() :])
            raise ValueError(f"{error}{did_you_mean(found[1], known)}") from None

    @property
    def feature_importances_(self) -> NoReturn:
        how = "permutation_importance, or sklearn_moe.inspection.explain(model, X).importance()"
        raise AttributeError(f"{type(self).__name__} has no feature_importances_. Use {how}.")


@contextmanager
def warning_once():
    """Say each warning once, however many steps of what is done here warn alike."""
    token = _WARNINGS.set(_WARNINGS.get(set()))
    try:
        yield
    finally:
        _WARNINGS.reset(token)


def warn(message, category, key=None):
    """Warn as from the innermost frame outside of this package, scikit-learn and joblib.

    Warnings of the same `key` are the same for `warning_once`; None: of the same message.
    """
    earlier, key = _WARNINGS.get(set()), key or message
    if key in earlier:
        return
    earlier.add(key)
    frame, level = sys._getframe(1), 2
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def documented_by(shared):
    """Return a decorator that adds shared parameters and attributes to the docstring of a class.

    Parameters
    ----------
    shared : str or None
        The docstring that describes them. An entry in braces, `{name}`, stands for the one of that
        name under "Parameters" of the class, and for nothing if it has none.
    """

    def document(cls):
        # There are no docstrings with python -OO.
        if cls.__doc__ is None:
            return cls
        head, rest = inspect.cleandoc(cls.__doc__).split("Parameters\n----------\n")
        of_class, tail = re.split(r"\n(?=Warns\n-----\n)", rest)
        texts = map(str.strip, re.split(r"\n(?=\w+ : )", of_class))
        entries = {f"{{{text.split(' : ')[0]}}}": f"{text}\n\n" for text in texts}
        common = inspect.cleandoc(shared).split("Parameters\n----------\n", 1)[1] + "\n\n"
        common = re.sub(r"(\{\w+\})\n\n", lambda match: entries.get(match[1], ""), common)
        cls.__doc__ = f"{head}Parameters\n----------\n{common}{tail}\n"
        return cls

    return document


@contextmanager
def name_in_errors(name):
    """Put the name of an argument before the message of an error that does not hold it.

    NumPy, torch and scikit-learn speak of arrays, whatever these are to the user. What leaves the
    range of floats is told by an error of ours, and by no warning of theirs.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            yield
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        if re.search(rf"\b{name}\b", str(error)):
            raise
        # IndexError and RuntimeError do not say that an argument is wrong.
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def refuse_overflow(name, *moments):
    """Refuse an array whose squares are too large for its type, which its moments show."""
    if not all(np.isfinite(moment).all() for moment in moments):
        raise ValueError(
            f"{name} holds numbers so large that their squares are not finite. Divide {name} by a "
            "constant."
        )


def check_named(array, name, **options):
    """Return an argument as `check_array` does, whose errors name it."""
    with name_in_errors(name):
        return check_array(array, input_name=name, **options)


def check_column(array, name):
    """Return an argument of one axis, or of one column, as `column_or_1d` does."""
    with name_in_errors(name):
        shape = np.shape(array)
        if len(shape) == 1 or shape[1:] == (1,):
            return column_or_1d(array)
    raise ValueError(f"{name} must have a single axis, got shape {shape}. Pass {name}[:, 0], say.")


def check_same_length(**arrays):
    """Refuse arguments of different lengths; None has any."""
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with name_in_errors(" and ".join(arrays)):
        check_consistent_length(*arrays.values())


def last_step(estimator):
    """Return the last step of a pipeline, or the estimator itself."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def final_step(estimator, X, needs=("apply",)):
    """Return the mixture at the end of a pipeline, and X as it sees it.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts, or a fitted :class:`~sklearn.pipeline.Pipeline` in which it is
        the last step.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them.

    needs : tuple of str, default=("apply",)
        The methods that the mixture must have.

    Returns
    -------
    estimator : estimator instance
        The mixture itself.

    X : array-like of shape (n_samples, ...)
        Samples as the mixture takes them.

    Raises
    ------
    TypeError
        If the mixture lacks one of the methods.
    """
    if isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    missing = [name for name in needs if not hasattr(estimator, name)]
    if missing:
        raise TypeError(
            f"A fitted mixture of experts with the methods {', '.join(needs)} is needed, but "
            f"{type(estimator).__name__} does not have {', '.join(missing)}. Pass the mixture "
            "itself, or a Pipeline that ends in it (of a search, `best_estimator_`), and X as "
            "it takes it."
        )
    return estimator, X


def is_channels_last(shape):
    """Tell the shape of images whose channels are the last axis, not the second one.

    (n, 64, 3, 3) may be feature maps, but (n, 32, 32, 3) is hardly 32 channels of 32 x 3 pixels.
    """
    # Channels of gray, RGB and RGBA images.
    return len(shape) == 4 and shape[3] in (1, 3, 4) and min(shape[1:3]) > 4


def check_images(images, *, name, caller):
    """Return images as an array of uint8, float32 or float64; it is copied only if necessary.

    Parameters
    ----------
    images : array-like
        The images.

    name : str
        The parameter that they were passed as, for messages.

    caller : str
        The function or class that takes them, for messages.

    Returns
    -------
    images : ndarray of shape (n_samples, n_channels, height, width)
        The images in native byte order; float16 becomes float32. Strides may be negative.

    Raises
    ------
    ValueError
        If this is no four-dimensional array of uint8 or finite floats, channels first.
    """
    images = check_named(
        images, name, allow_nd=True, ensure_2d=False, dtype="numeric", estimator=caller
    )
    shape, dtype = images.shape, images.dtype
    if len(shape) != 4 or is_channels_last(shape):
        raise ValueError(
            f"{caller} takes images of shape (n_samples, n_channels, height, width), got {name} "
            f"of shape {shape}. Pass {name}.transpose(0, 3, 1, 2) if channels are the last axis, "
            f"{name}[:, np.newaxis] of gray images without one, and {name}[np.newaxis] of a single "
            f"image; of rows of pixels {name}.reshape(len({name}), n_channels, height, width)."
        )
    if dtype != np.uint8 and dtype.kind != "f":
        raise ValueError(
            f"{name} must be uint8 in [0, 255] or floats, got {dtype}. Convert it: "
            f"{name}.astype(np.uint8) if the values are from 0 to 255, else "
            f"{name}.astype(np.float32)."
        )
    # A type, and not a dtype, stands for native byte order, which torch needs.
    of_floats = np.float64 if dtype.itemsize >= 8 else np.float32
    return images.astype(of_floats if dtype.kind == "f" else np.uint8, copy=False)


# -- choices: a registered name, or an object of the user's own ------------------------------------


class Registry(dict[str, Any]):
    """The parts of one kind, by name.

    Register at the top level of a module: a worker process knows only the names of modules that it
    imports.

    Parameters
    ----------
    parameter : str
        Parameter of the estimators that takes such a name.
    alternative : str
        What may be passed instead of a name, for messages.
    entries : dict
        The names that come with the library.

    Examples
    --------
    >>> from sklearn_moe.nn import ACTIVATIONS
    >>> ACTIVATIONS.register("cubic", lambda z: z**3)
    Traceback (most recent call last):
    ...
    ValueError: activation='cubic' is registered already. Choose another name.
    """

    def __init__(self, parameter: str, alternative: str, entries: Mapping[str, Any]):
        super().__init__(entries)
        self.parameter = parameter
        self.alternative = alternative

    def register(self, name: str, entry: Any) -> None:
        """Add a part under a new name.

        Raises
        ------
        ValueError
            If the name is taken: a part of that name may be in use.
        """
        if name in self:
            raise ValueError(
                f"{self.parameter}={name!r} is registered already. Choose another name."
            )
        self[name] = entry

    def resolve(self, choice: Any, offered: Callable[[], Iterable[str]] | None = None) -> Any:
        """Return what `choice` names, or `choice` itself if it is no name.

        Raises
        ------
        ValueError
            If the name is unknown; the message lists those that `offered` returns, by default all.
        """
        if not isinstance(choice, str):
            return choice
        if choice not in self:
            known = sorted(self if offered is None else offered())
            raise ValueError(
                f"Unknown {self.parameter}={choice!r}: pass one of "
                f"{known} or {self.alternative}.{did_you_mean(choice, known)}"
            )
        return self[choice]

    def expected(self, choice: Any) -> str:
        """Return what a choice of the user's own must be, for messages."""
        return f"{self.parameter}={choice!r} must be {self.alternative}"

    def make(self, choice: Any, kind: type, /, *args: Any, **options: Any) -> Any:
        """Return what the factory of a choice, a `kind`, makes of the arguments."""
        return call_factory(self.expected(choice), kind, self.resolve(choice), *args, **options)


def call_factory(expected: str, kind: type, factory: Any, /, *args: Any, **options: Any) -> Any:
    """Return what a factory makes; `expected` begins the messages: what it must be.

    Raises
    ------
    TypeError
        If the factory does not take these arguments, or makes anything but a `kind`. What goes
        wrong inside of it is its own matter.
    """
    if isinstance(factory, kind):
        raise TypeError(f"{expected}; it is what that should return.")
    try:
        made = factory(*args, **options)
    except (TypeError, ValueError) as error:
        is_torchs = getattr(factory, "__module__", "").startswith("torch.")
        if not is_torchs and (trace := error.__traceback__) and trace.tb_next:  # raised inside
            raise
        raise TypeError(f"{expected}; it does not take what it is given: {error}.") from None
    if not isinstance(made, kind):
        raise TypeError(f"{expected}; it returned {type(made).__name__}.")
    return made


def accepts_argument(function: Any, name: str) -> bool:
    """Return whether a function has an argument of that name, or takes any.

    One of C that does not tell its arguments takes none.
    """
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return False
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return True
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL)
    return name in parameters and parameters[name].kind not in by_position


def overrides(part: Any, base: type, method: str) -> bool:
    """Return whether the class of a part overrides a method of its base class."""
    return getattr(type(part), method) is not getattr(base, method)


def require_override(part: Any, base: type, method: str, purpose: str) -> None:
    """Refuse a part whose class does not override a method of its base, and say what needs it.

    Raises
    ------
    TypeError
        If the method is still that of the base.
    """
    if not overrides(part, base, method):
        raise TypeError(
            f"{type(part).__name__} has no method {method!r}, which {purpose} needs. Write it as "
            f"{base.__name__}.{method} describes."
        )
