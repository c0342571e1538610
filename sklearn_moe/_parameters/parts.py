"""Parameters of the parts of a mixture, and what the parameters of these names may be."""

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any, ClassVar, Literal

from sklearn.utils._param_validation import Interval

from .._validation import Count, HasNames, Names
from ..nn import ExpertSpec, LossSpec, Router, RouterSpec
from ..nn.router_parts import GATES, NOISES
from ..optim import SolverSpec

AUTO = Names({"auto"})
RATE = Interval(Real, 0, None, closed="left")


class _PartParams(HasNames):
    """Parameters of one part of a mixture, as scikit-learn knows parameters.

    Subclasses are dataclasses only for their constructor, which assigns.
    """

    _parameter_constraints: ClassVar[dict] = {}

    def __eq__(self, other):
        return type(other) is type(self) and self.get_params() == other.get_params()

    __hash__ = None  # type: ignore[assignment]  # may change


@dataclass(eq=False, repr=False)
class RouterParams(_PartParams):
    """A router and what belongs to it, for the parameter `router`.

    Parameters
    ----------
    kind : str, subclass of sklearn_moe.nn.Router or RouterSpec, default="auto"
        The router, as the parameter `router` of :class:`~sklearn_moe.MoEClassifier` describes it.

    network : {"auto", "linear"} or callable, default="auto"
        How the scores of a sample are computed: "linear", a linear function of its patches, summed
        over them (section 3.2 of [1]_; images are cut into 4 x 4 pixels, a strided convolution); or
        a callable
        `(input_shape, n_experts) -> torch.nn.Module`, as convolutions of an image. "auto" is
        "linear" unless the router computes scores in its own way. On a table all but "linear" have
        the router trained together with the experts, see `learning_rate`.

    noise : {"auto", "uniform", "gaussian", "gumbel"}, callable or None, default="auto"
        Noise that is added in training to the scores of the choice, not to the gate: U[0, 1]
        (Algorithm 1 of [1]_), N(0, 1) or Gumbel(0, 1), drawn anew for every sample, expert and
        step; or a callable `(x, scores, generator) -> noise`, in torch. For 2-D X the noise is a
        hash of the row, another one in each step: equal rows get equal noise, so that a sample of
        weight 2 is exactly the sample twice. None: no noise, and small random initial weights of
        the router, so that its scores differ. "auto" depends on the router and is "uniform" for
        most; routers that use all experts have no noise.

    gate : {"auto", "softmax", "renormalized", "relative", "sigmoid", "logit"}, default="auto"
        Weight of a chosen expert's output:

        - "softmax": the softmax over all experts of the scores without noise (section 3.2 of [1]_);
        - "renormalized": the softmax over the chosen experts. It needs `top_k >= 2`: for a single
          expert it is always 1, and the router would learn nothing;
        - "relative": `n_experts` times the softmax over all. It is 1 as long as the router has no
          preference, so that the output is not made smaller at the start;
        - "sigmoid": the sigmoid of the expert's score;
        - "logit": its score with noise, as in the authors' notebooks.

        "auto" is "softmax" if the router allows it, "relative" after `upcycling`.

    n_shared_experts : int, default=0
        Number of experts that compute every sample in addition to the chosen ones. Their outputs
        are added without a gate [2]_. For routers that add outputs: not for "soft".

    upcycling : float, default="auto"
        For images whose experts are whole networks of one kind: share of the epochs, from the
        first on, in which the first expert alone is trained, by all images. Then the others begin
        as copies of it, and the router learns to choose [3]_. An expert that sees its share of
        the images only learns less than one network that sees them all: by "top1" four CNNs are
        right for 49 % of new digits after ten epochs of 300, one CNN for 76 %, and four copies of
        it for 76 %. "auto" is 0.75 for routers that use few experts, with the schedule "cosine"
        and without early stopping, otherwise 0: all experts are trained from the start on.

    learning_rate : float, default="auto"
        Learning rate of the router. "auto" is 0.0015 for "adamw", 0.0003 for "adam", 0.01 for "sgd"
        and 1 / r^2 for "normalized_sgd", with r the root mean square norm of the training patches;
        but for the router "soft" on a table or behind a
        trunk twice that of the experts, except for "normalized_sgd". On images it is less: that of
        "adamw" is multiplied by 0.4, and without a trunk all are divided by the number of squares
        whose scores are added up. On a table a number has the router trained together with the
        experts, which are "mlp" unless `expert` is set; by default it is learned after them.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.
    .. [2] D. Dai et al., "DeepSeekMoE: Towards Ultimate Expert Specialization in
       Mixture-of-Experts Language Models", arXiv 2401.06066.
    .. [3] A. Komatsuzaki et al., "Sparse Upcycling: Training Mixture-of-Experts from Dense
       Checkpoints", ICLR 2023.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier, RouterParams
    >>> clf = MoEClassifier(router=RouterParams("topk", noise=None), top_k=2)
    >>> clf
    MoEClassifier(router=RouterParams(kind='topk', noise=None), top_k=2)
    >>> clf.set_params(router__gate="renormalized").router
    RouterParams(gate='renormalized', kind='topk', noise=None)
    """

    _parameter_constraints: ClassVar[dict] = {
        "kind": [str, callable, RouterSpec],
        "network": [str, callable],
        "noise": [Names({"auto", *NOISES}), callable, None],
        "gate": [Names({"auto", *GATES})],
        "n_shared_experts": [Count(0)],
        "upcycling": [AUTO, Interval(Real, 0, 1, closed="left")],
        "learning_rate": [AUTO, RATE],
    }

    kind: str | type[Router] | RouterSpec = "auto"
    _: KW_ONLY
    network: str | Callable = "auto"
    noise: str | Callable | None = "auto"
    gate: str = "auto"
    n_shared_experts: int = 0
    upcycling: float | Literal["auto"] = "auto"
    learning_rate: float | Literal["auto"] = "auto"


@dataclass(eq=False, repr=False)
class BalanceParams(_PartParams):
    """A balance, which keeps the load of the experts even, for the parameter `balance`.

    Parameters
    ----------
    kind : str, callable or None, default=None
        As the parameter `balance` of :class:`~sklearn_moe.MoEClassifier` describes it. On a table
        it has the router trained together with the experts.

    weight : float, default=0.01
        Factor of the balancing loss, or the step of "bias".

    Examples
    --------
    >>> from sklearn_moe import BalanceParams, MoEClassifier
    >>> clf = MoEClassifier(balance=BalanceParams("switch", weight=0.001))
    """

    _parameter_constraints: ClassVar[dict] = {"kind": [str, callable, None], "weight": [RATE]}

    kind: str | Callable | None = None
    _: KW_ONLY
    weight: float = 0.01


@dataclass(eq=False, repr=False)
class SolverParams(_PartParams):
    """A solver and what belongs to it, for the parameter `solver`.

    Parameters
    ----------
    kind : str, callable or SolverSpec, default="auto"
        The solver, as the parameter `solver` of :class:`~sklearn_moe.MoEClassifier` describes it.

    schedule : {"auto", "constant", "cosine", "residual"}, default="auto"
        Schedule of the learning rates.

        - "constant": the rates do not change;
        - "cosine": the rates of experts and router rise over the first twentieth of the steps and
          fall to 0 by half a period of the cosine, in `max_iter` epochs;
        - "residual", for "normalized_sgd": an expert's step is multiplied by its current mean error
          over its own samples, at most 1. For classes this is the probability of an error relative
          to that of guessing, for regression the absolute error in standard deviations of y. A
          normalized step does not get shorter by itself, so that an expert that has learned its
          samples would disturb the others.

        "auto" is "cosine" for "adamw", "residual" for "normalized_sgd" and "constant" for the
        others.

    momentum : float, default=0.0
        Momentum of "normalized_sgd" and "sgd". For other solvers it is an error.

    weight_decay : float, default=0.0
        Strength of the L2 penalty. For "adamw" the rate at which weights decay, independent of the
        gradient.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier, SolverParams
    >>> clf = MoEClassifier(solver=SolverParams("adamw", weight_decay=0.1))
    """

    _parameter_constraints: ClassVar[dict] = {
        "kind": [str, callable, SolverSpec],
        "schedule": [Names({"auto", "constant", "cosine", "residual"})],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [RATE],
    }

    kind: str | Callable | SolverSpec = "auto"
    _: KW_ONLY
    schedule: str = "auto"
    momentum: float = 0.0
    weight_decay: float = 0.0


PARTS: dict[str, Any] = {"router": RouterParams, "balance": BalanceParams, "solver": SolverParams}

# What the parameters of these names may be: a registered name, or an object of the user's own.
ExpertChoice = str | Callable | ExpertSpec | Sequence[str | Callable | ExpertSpec]
RouterChoice = str | type[Router] | RouterSpec | RouterParams
LossChoice = str | Callable | LossSpec
BalanceChoice = str | Callable | BalanceParams
SolverChoice = str | Callable | SolverSpec | SolverParams
