"""How tables of any container are read: their columns and categories, and some rows of any X."""

import datetime
import hashlib
import math
import re
from collections import Counter
from functools import cached_property
from numbers import Number

import numpy as np
from scipy.sparse import issparse
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils import gen_batches
from sklearn.utils._indexing import _get_column_indices
from sklearn.utils.random import sample_without_replacement

from .._validation import name_in_errors, warn

# Types of columns, as NumPy, pandas, polars and Arrow call them.
_TRAINED_IN_SINGLE = re.compile(r"u?int\d+|bool|float16|float32|half|float($|\[)")
_OF_TIME = re.compile("date|time|duration|period|interval|month_day")
_OF_CATEGORIES = (
    *("category", "categorical", "enum", "dictionary"),
    *("str", "string", "large_string", "string_view", "utf8", "large_utf8"),
)
# What objects become that are all of a type.
_TYPES_OF_OBJECTS = {"f8": Number, "m8[us]": datetime.timedelta, "M8[us]": datetime.date}
# Numbers that are read at a time: a memory map is never read as a whole.
N_NUMBERS_READ = 2**20
# Rows of a large X, drawn at random, that something is measured on.
N_ROWS_MEASURED = 4000


def is_frame(X):
    """Tell a data frame of pandas or polars from other containers."""
    # Lazy frames, which are refused by name, have no shape. The types of a frame itself take long.
    return all(hasattr(type(X), name) for name in ("shape", "columns", "dtypes"))


def apart_from(names, name):
    """Return a name, with an addition where it is one of some names already."""
    while name in names:
        name += " (column)"
    return name


def is_missing(values):
    """Tell None, NaN and pandas' NA from other values, (n_samples,)."""
    if values.dtype != object:
        return values != values
    return np.array([value is None or not _is_itself(value) for value in values], dtype=bool)


def _is_itself(value):
    try:
        return bool(value == value)
    # Of pandas' NA it is not known, and an array has no truth value.
    except (TypeError, ValueError):
        return isinstance(value, np.ndarray)


def refuse_repeated_names(X):
    """Refuse a data frame in which several columns have one name."""
    counts = Counter(map(str, X.columns if is_frame(X) else ()))
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise ValueError(f"X has several columns of one name: {repeated}. Rename them.")


def hash_rows(X):
    """Return a number per row, (n_samples,) of uint64, the same for equal rows in any container."""
    hashes = np.zeros(X.shape[0], dtype=np.uint64)
    for column in Table(X.tocsc() if issparse(X) else X):
        if column.typed.dtype.kind in "biufmM":
            # The zero of either sign is the same, and any NaN.
            bits = np.where(column.missing, np.nan, column.as_floats() + 0.0).view(np.uint64)
        else:
            texts = [*map(str, np.where(column.missing, None, column.values))]
            codes = {t: hashlib.blake2b(t.encode(), digest_size=8).digest() for t in set(texts)}
            bits = np.frombuffer(b"".join(codes[text] for text in texts), dtype=np.uint64)
        # The high bits change the low ones, and these the high ones (as in splitmix64).
        hashes = (hashes ^ (hashes >> 29)) * 0xBF58476D1CE4E5B9 + bits
    return hashes


def refuse_missing(name, values, advice):
    """Refuse an argument, (n_samples,), in which values are missing."""
    if (missing := is_missing(values)).any():
        raise ValueError(
            f"{name} holds None or NaN for {missing.sum()} samples, the first one at place "
            f"{missing.argmax()}. {advice}"
        )


def refuse_times(what, kind):
    """Return the error for dates and times, which have no unit that could be guessed."""
    return TypeError(
        f"{what} holds dates or times ({kind}), which are no numbers. Replace it by numeric "
        "columns, such as the year, the month, the hour, or the days since some date: "
        "(date - start) / pandas.Timedelta('1D')."
    )


def number_types(values, kind="", *, wide=None):
    """Return the type in which numbers are kept until they are standardized, and that of training.

    What the data hold decides. float64 is kept and trained in; integers that float32 would round
    are kept in float64 and trained in float32, as everything else.

    Parameters
    ----------
    values : ndarray
    kind : str, default=""
        Type of the column that they are from.
    wide : type of float, default=None
        For integers of 32 and more bits. None: their values decide; at prediction they do not, so
        that no sample depends on the others.
    """
    kind = kind.removeprefix("sparse[") or values.dtype.name
    if not _TRAINED_IN_SINGLE.match(kind):
        return np.float64, np.float64
    if "int" not in kind or re.match(r"u?int(8|16)\b", kind):
        return np.float32, np.float32
    if wide is None:
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        # As Python's integers, which have no least one.
        largest = max(values.max(initial=0).item(), -values.min(initial=0).item())
        # float32 holds all integers up to this one.
        wide = np.float64 if largest > 2**24 else np.float32
    return wide, np.float32


class Column:
    """A column of a table, whose values are read when they are asked for.

    Attributes
    ----------
    name : Any
        In a data frame the name, which need not be unique; in an array the place.
    label : str
        The name as text; x0, x1, ... in an array.
    kind : str
        The type that a data frame gives it, in lower case.
    """

    def __init__(self, table, place):
        self.X = table.X
        self.place = place
        self.name = table.names[place]
        self.kind = table.kinds[place]
        self.in_frame = table.is_frame
        self.label = str(self.name) if self.in_frame else f"x{place}"

    @cached_property
    def values(self):
        """The values as they are, (n_samples,); missing ones of integers are NaN."""
        X, place = self.X, self.place
        if issparse(X):
            return X[:, [place]].toarray()[:, 0]
        if not self.in_frame:
            return X[:, place]
        # That of polars.
        if not hasattr(X, "iloc"):
            return X.to_series(place).to_numpy()
        column = X.iloc[:, place]
        is_number = getattr(column.dtype, "kind", "O") in "iufb"
        if isinstance(column.dtype, np.dtype) or not is_number:
            return column.to_numpy()
        if column.isna().any():
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return column.to_numpy(dtype=getattr(column.dtype, "numpy_dtype", None))

    @cached_property
    def missing(self):
        """Where a value is missing, (n_samples,)."""
        return is_missing(self.values) if self.coded is None else self.coded[0] < 0

    @cached_property
    def coded(self):
        """Codes of the categories that pandas keeps, -1 if missing, and these; None without."""
        if self.kind != "category" or not hasattr(self.X, "iloc"):
            return None
        categorical = self.X.iloc[:, self.place].array
        return categorical.codes, np.asarray(categorical.categories)

    @property
    def holds_categories(self):
        """Whether it is a data frame's column of categories or strings."""
        # The type's name without what is in brackets.
        if re.match("[a-z0-9_]*", self.kind).group() in _OF_CATEGORIES:
            return True
        # A pandas column of objects may hold anything; strings are categories.
        return self.kind == "object" and all(
            isinstance(value, str) for value in self.values[~self.missing]
        )

    @cached_property
    def typed(self):
        """The values: objects that are all numbers, dates or durations become arrays of these.

        NaN or NaT where one is missing. Other objects, such as bools and texts, stay as they are.
        """
        if self.values.dtype != object:
            return self.values
        kinds = {type(value) for value in self.values[~self.missing]}
        for dtype, of in _TYPES_OF_OBJECTS.items():
            if not kinds & {bool, complex} and all(issubclass(kind, of) for kind in kinds):
                values = np.where(self.missing, None, self.values)
                for row in np.flatnonzero([getattr(value, "tzinfo", None) for value in values]):
                    in_utc = values[row].astimezone(datetime.timezone.utc)
                    values[row] = in_utc.replace(tzinfo=None)
                return values.astype(dtype)
        return self.values

    @property
    def is_numeric(self):
        """Whether it holds numbers, dates or durations, one known at least, and no categories."""
        is_number = self.typed.dtype.kind in "biufmM" and np.isfinite(self.typed).any()
        return is_number and not self.holds_categories

    def as_floats(self):
        """Return numbers, dates or durations as floats, NaN where one is missing."""
        # Dates and durations are whole numbers of some unit.
        values = self.typed.view("i8") if self.typed.dtype.kind in "mM" else self.typed
        return np.where(self.missing, np.nan, values).astype(float)

    def as_numbers(self):
        """Return the values as numbers, NaN where one is missing, or refuse them."""
        values = self.typed
        if values.dtype.kind in "biuf":
            return values
        what = f"Column {self.name!r} of X"
        if values.dtype.kind == "c":
            raise ValueError(
                f"{what} holds complex numbers. Replace it by columns of real numbers, such as "
                "their real and imaginary parts."
            )
        if values.dtype.kind in "mM" or _OF_TIME.match(self.kind):
            raise refuse_times(what, self.kind or values.dtype)
        if self.missing.any():
            values = np.where(self.missing, np.nan, values)
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"{what} holds values that are no numbers: {str(error).rstrip('.')}. Make it a "
                "column of numbers, or of strings or a categorical type only."
            ) from error


class Table:
    """A table: a data frame of pandas or polars, an array or a sparse matrix.

    Its columns are read by their places, each time that they are asked for.

    Parameters
    ----------
    X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
    """

    def __init__(self, X):
        self.is_frame = is_frame(X)
        self.X = X if self.is_frame or issparse(X) else np.asarray(X)
        self.names = list(X.columns) if self.is_frame else range(self.X.shape[1])
        kinds = X.dtypes if self.is_frame else [""] * len(self.names)
        self.kinds = [str(kind).lower() for kind in kinds]

    def __len__(self):
        return len(self.names)

    def __iter__(self):
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, place):
        return Column(self, place)

    def find_categories(self, chosen="from_dtype"):
        """Return the places of the categorical columns.

        Parameters
        ----------
        chosen : "from_dtype", None or array-like
            As `categorical_features` of the estimators.

        Raises
        ------
        ValueError
            If there are columns of strings and none is chosen, or a chosen column is not there.
        """
        if chosen is not None and not isinstance(chosen, str):
            with name_in_errors("categorical_features"):
                return sorted(set(_get_column_indices(self.X, np.asarray(chosen).tolist())))
        # An array, which has one type, says nothing about its columns.
        columns = self if self.is_frame else ()
        of_type = [column.place for column in columns if column.holds_categories]
        if chosen is None and of_type:
            names = [self.names[place] for place in of_type]
            raise ValueError(
                f"Columns {names} hold categories, and categorical_features=None takes every "
                "column for numbers. Use categorical_features='from_dtype', or encode them before:"
                f"\nmake_column_transformer((OneHotEncoder(handle_unknown='ignore'), {names}), "
                "remainder='passthrough')"
            )
        return of_type

    def to_numbers(self, categories=None, *, wide=None):
        """Return the table as an array of numbers, and the type that it is trained in.

        Parameters
        ----------
        categories : Categories or None
            Their columns become codes.
        wide : type of float, default=None
            See `number_types`.

        Raises
        ------
        ValueError, TypeError
            If a column holds dates, or anything else that is no number.
        """
        columns = {} if categories is None else categories.encode(self)
        types = [(np.float32, np.float32)]
        for column in self:
            if column.place not in columns:
                columns[column.place] = column.as_numbers()
                types.append(number_types(columns[column.place], column.kind, wide=wide))
        kept, trained = (np.result_type(*each) for each in zip(*types, strict=True))
        array = np.empty((self.X.shape[0], len(self)), kept)
        for place, values in columns.items():
            array[:, place] = values
        return array, trained


class Categories:
    """The categories of some columns, and their codes 0, 1, ...

    Parameters
    ----------
    columns : list of int

    Attributes
    ----------
    values : list of list
        The categories of each column, sorted.
    in_frame : bool
        Whether they were learned from a data frame.
    as_objects : bool
        Whether they are compared as Python objects.
    """

    def __init__(self, columns):
        self.columns = columns

    def fit(self, table, weight):
        """Learn the categories of the samples whose weight, (n_samples,), is above 0."""
        self.in_frame = table.is_frame
        self.as_objects = self.in_frame or table.X.dtype == object
        self.names = [table.names[place] for place in self.columns]
        self.values = []
        for place, name in zip(self.columns, self.names, strict=True):
            column = self._objects(table[place])
            try:
                encoder = OrdinalEncoder().fit(column[weight > 0])
            except TypeError as error:
                raise TypeError(f"Column {name!r} of X, of categories: {error}") from error
            # The last one may stand for what is missing.
            values = encoder.categories_[0]
            self.values.append(values[~is_missing(values)].tolist())
        return self

    def warn_of_texts(self, n_rows):
        """Warn of columns of more than 50 texts that differ in nine of ten rows."""
        for name, values in zip(self.names, self.values, strict=True):
            if len(values) > max(50, 0.9 * n_rows) and isinstance(values[0], str):
                warn(
                    f"Column {name!r} of X holds {len(values)} different texts in {n_rows} rows, "
                    "which are taken as categories: nothing can be learned from these. Leave it "
                    "out, or make numbers of it, for instance by TfidfVectorizer.",
                    UserWarning,
                )

    def encode(self, table):
        """Return the codes, (n_samples,) by column, NaN where a category is missing or not known.

        Warn if most values of a column are unknown: numbers in the place of texts or the other way
        round, or at least 20 values.

        Raises
        ------
        ValueError
            If X is no data frame, and the one of `fit` was.
        """
        if self.in_frame and not table.is_frame:
            raise ValueError(
                f"X is {type(table.X).__name__}, but the model was fitted on a data frame with "
                f"categorical columns {self.names}. Pass a data frame with the same columns."
            )
        coded = {}
        for i, place in enumerate(self.columns):
            column, name, known = table[place], self.names[i], self.values[i]
            code_of = {value: float(code) for code, value in enumerate(known)}
            codes, values = column.coded or (None, column.values)
            coded[place] = np.array([*(code_of.get(v, np.nan) for v in values.tolist()), np.nan])
            # The last one is that of a missing category, whose code is -1.
            coded[place] = coded[place][:-1] if codes is None else coded[place][codes]
            is_unknown = np.isnan(coded[place]) & ~column.missing
            n_unknown, n_values = is_unknown.sum(), np.count_nonzero(~column.missing)
            if len(known) < 2 or 2 * n_unknown <= n_values:
                continue
            got, seen = column.values[is_unknown].tolist()[0], known[0]
            # As many are no accident.
            if isinstance(got, str) != isinstance(seen, str) or n_unknown >= 20:
                warn(
                    f"Column {name!r} of X: {n_unknown} of {n_values} values are no categories of "
                    f"the fit and count as missing, such as {got!r} ({type(got).__name__}). In fit "
                    f"there was {seen!r} ({type(seen).__name__}): pass categories as they were "
                    "there.",
                    UserWarning,
                    key=("unknown categories", name),
                )
        return coded

    def _objects(self, column):
        """Return the values of a column as they are compared, (n_samples, 1)."""
        values = column.values
        if self.as_objects or values.dtype == object:
            values = np.where(column.missing, np.nan, values.astype(object))
        return values[:, np.newaxis]


# -- some rows of an X, which may be too large to be copied ----------------------------------------


def row_slices(X):
    """Yield slices of the rows of X that hold about a million numbers each, and at least one."""
    return gen_batches(len(X), max(1, N_NUMBERS_READ // max(1, math.prod(X.shape[1:]))))


def draw_rows(n_rows, n_drawn):
    """Return the numbers of some rows, all if there are few; the same ones in every call."""
    if n_rows <= n_drawn:
        return np.arange(n_rows)
    # Other methods go through all rows, of which there may be many.
    drawn = sample_without_replacement(n_rows, n_drawn, "tracking_selection", random_state=0)
    return np.sort(drawn)


def select(X, rows):
    """Return some rows of X; only those of a sparse matrix are copied.

    Parameters
    ----------
    X : ndarray, IndexedView or CSR matrix
    rows : ndarray of int
    """
    if issparse(X):
        return X[rows]
    if isinstance(X, IndexedView):
        return IndexedView(X.X, X.rows[rows])
    return IndexedView(X, rows)


class IndexedView:
    """Some rows of an array or tensor; those that are asked for are gathered.

    Parameters
    ----------
    X : ndarray or tensor
    rows : ndarray or tensor of int
        Which ones, in their order.
    """

    def __init__(self, X, rows):
        self.X = X
        self.rows = rows
        self.shape = (len(rows), *X.shape[1:])
        self.ndim = X.ndim
        self.dtype = X.dtype

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, part):
        return self.X[self.rows[part]]

    def to(self, device):
        """Return the rows on another device as a tensor."""
        return self if device.type == "cpu" else self[:].to(device)

    def index_select(self, axis, index):
        """Return the rows of an index tensor, as tensors do."""
        return self.X.index_select(0, self.rows.index_select(0, index))
