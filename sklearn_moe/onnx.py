"""Pipelines as files of ONNX, by skl2onnx.

`MoEClassifier.to_onnx` and `MoERegressor.to_onnx` write a model by itself; :func:`register` lets
skl2onnx convert it as a step of a pipeline, together with the scalers and encoders in front of it.
"""

import numpy as np

from ._estimators.classifier import MoEClassifier
from ._estimators.regressor import MoERegressor
from .nn.predictor import require_onnx, write_onnx

__all__ = ["register"]


def register() -> None:
    """Make both estimators known to skl2onnx.

    The label of a classifier is that of `predict`, its second output are the probabilities; the
    option `zipmap` is that of other classifiers. With several labels both have the shape
    (n_samples, n_labels).

    Raises
    ------
    ImportError
        If skl2onnx is missing: `pip install 'sklearn_moe[onnx]'`.

    Notes
    -----
    A model that was fitted on categories which are no numbers cannot be converted: ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> import sklearn_moe.onnx
    >>> from skl2onnx import to_onnx
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_moe import MoEClassifier
    >>> X = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    >>> pipe = make_pipeline(StandardScaler(), MoEClassifier(n_experts=2, max_iter=5))
    >>> pipe = pipe.fit(X, X[:, 0] > 0)
    >>> sklearn_moe.onnx.register()  # doctest: +SKIP
    >>> to_onnx(pipe, X[:1], options={"zipmap": False}).save("pipe.onnx")  # doctest: +SKIP
    """
    require_onnx("skl2onnx")
    from skl2onnx import update_registered_converter

    for model, shapes, convert, options in (
        (MoEClassifier, _classifier_shapes, _convert_classifier, _OPTIONS),
        (MoERegressor, _regressor_shapes, _convert_regressor, None),
    ):
        update_registered_converter(
            model, f"SklearnMoe{model.__name__}", shapes, convert, options=options
        )


_OPTIONS = {
    "zipmap": [True, False, "columns"],
    "nocl": [True, False],
    "output_class_labels": [False, True],
}


def _classifier_shapes(operator):
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    model = operator.raw_operator
    n_samples = operator.inputs[0].get_first_dimension()
    label, proba = operator.outputs[:2]
    is_text = _codes(model).dtype.kind != "i"
    shape = [n_samples] if model._target.kind == "classes" else [n_samples, len(model.classes_)]
    label.type = (StringTensorType if is_text else Int64TensorType)(shape)
    proba.type = _float_type(model)([n_samples, len(model.classes_)])


def _regressor_shapes(operator):
    model = operator.raw_operator
    n_samples = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = _float_type(model)([n_samples, model._target.n_targets])


def _float_type(model):
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    is_double = next(model.module_.parameters()).element_size() == 8
    return DoubleTensorType if is_double else FloatTensorType


def _codes(model):
    """Return the classes as ONNX holds them, integers or text."""
    classes = np.asarray(model.classes_)
    return classes.astype(np.int64 if classes.dtype.kind in "biuf" else object)


def _convert_regressor(scope, operator, container):
    from skl2onnx.helpers import add_onnx_graph

    add_onnx_graph(scope, operator, container, _graph_of(operator.raw_operator))


def _convert_classifier(scope, operator, container):
    from onnx import TensorProto, helper
    from skl2onnx.helpers import add_onnx_graph

    model = operator.raw_operator
    proto = _graph_of(model)
    graph = proto.graph
    if model._target.kind == "classes":
        codes = _codes(model)
        kind = TensorProto.INT64 if codes.dtype.kind == "i" else TensorProto.STRING
        values = codes if codes.dtype.kind == "i" else [str(c).encode() for c in codes]
        graph.initializer.append(helper.make_tensor("classes", kind, codes.shape, values))
        decide = [
            helper.make_node("ArgMax", ["values"], ["best"], name="best", axis=1, keepdims=0),
            helper.make_node("Gather", ["classes", "best"], ["label"], name="label"),
        ]
    else:
        half = helper.make_tensor("half", graph.output[0].type.tensor_type.elem_type, [], [0.5])
        graph.initializer.append(half)
        kind = TensorProto.INT64
        decide = [
            helper.make_node("Greater", ["values", "half"], ["is_more"], name="is_more"),
            helper.make_node("Cast", ["is_more"], ["label"], name="label", to=kind),
        ]
    graph.node.extend(decide)
    graph.output.insert(0, helper.make_tensor_value_info("label", kind, None))
    add_onnx_graph(scope, operator, container, proto)


def _graph_of(model):
    """Return a model of ONNX from "X", of any type, to "values"."""
    from onnx import helper

    module = model.to_torch().cpu()
    if module.category_names:
        raise ValueError(
            f"{type(model).__name__} was fitted on categories that are no numbers, in columns "
            f"{list(module.category_names)} of X, and ONNX holds a table of numbers. Put an "
            "OrdinalEncoder in front of it in the pipeline and name its columns by "
            "categorical_features, or write the model alone by its method to_onnx."
        )
    module.squeeze = False
    proto = write_onnx(module, None, "values").model_proto
    graph = proto.graph
    for node in graph.node:
        node.input[:] = ["typed" if name == "X" else name for name in node.input]
    kind = graph.input[0].type.tensor_type.elem_type
    graph.node.insert(0, helper.make_node("Cast", ["X"], ["typed"], name="typed", to=kind))
    return proto
