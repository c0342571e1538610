"""The estimators of the paper: as it is written, and as the authors' notebooks run it."""

from dataclasses import replace

import torch
from sklearn.base import BaseEstimator

from .._estimators.classifier import MoEClassifier
from .._training import Callback, StopTraining
from ..nn import EXPERTS, ROUTERS, Balance
from ..nn.functional import weighted_mean
from ..nn.seeding import hash_rows
from ..optim import SOLVERS, NormalizedSGD

NOISY_AT_TEST = ROUTERS["top1"].with_options(noise_at_predict=True)
SUM_OF_NORMS = SOLVERS["normalized_sgd"].with_options(norm="sum")


def expert(name, init_scale):
    """Return a patch expert whose initial weights have a fixed scale, whatever X is."""
    return EXPERTS[name].with_options(init_scale=init_scale)


class NotebookBalance(Balance):
    """The notebooks' load-balancing loss, M sum_m f_m s_m.

    f_m is the share of the samples of this step that expert m gets, s_m the mean of its scores with
    their noise: where "switch" has a running share and the mean softmax of the scores.
    """

    def loss(self, router, route, weight):
        """Return M f . s."""
        scores = weighted_mean(route.noisy, weight.to(route.noisy.dtype))
        return self.n_experts * (route.load(weight).to(scores.dtype) @ scores)


class FixedNoise(BaseEstimator):
    """Noise that is drawn once: a sample has the same in every step, and at prediction.

    Parameters
    ----------
    random_state : int, default=0
    """

    def __init__(self, random_state=0):
        self.random_state = random_state

    def __call__(self, x, scores, generator):
        """Return the noise of some samples, U[0, 1], of the shape of their scores."""
        fixed = torch.Generator(x.device).manual_seed(self.random_state)
        return hash_rows(x.double(), scores.shape[1], fixed).to(scores)


class TensorwiseSGD(NormalizedSGD):
    """Normalizes the gradient of every tensor by itself: weights and biases of an expert apart."""

    def add_param_group(self, param_group):
        """Make a group of each tensor."""
        for tensor in param_group["params"]:
            super().add_param_group(param_group | {"params": [tensor]})


# What the notebooks of Figure 3 change in those of the tables.
FIGURE_3 = {
    "router__noise": FixedNoise(),
    "solver": replace(SOLVERS["normalized_sgd"], optimizer=TensorwiseSGD),
    "callbacks": None,
}


class NotebookStopping(Callback):
    """The notebooks' rule: stop at a loss that is worse than the best one, and much so or small.

    Parameters
    ----------
    margin : float, default=0.02
        How much worse than the best loss so far is too much.
    floor : float, default=0.314
        A loss below which any worsening ends the training.
    patience : int, default=0
        Steps before the rule applies.
    """

    def __init__(self, margin=0.02, floor=0.314, patience=0):
        self.margin = margin
        self.floor = floor
        self.patience = patience

    def on_epoch_end(self, net, **kwargs):
        """Check the loss of this step (one epoch is one step, full batch)."""
        losses = net.history[:, "train_loss"]
        loss, best = losses[-1], min(losses[:-1], default=float("inf"))
        worse = loss > best and (loss > best + self.margin or loss <= self.floor)
        if worse and len(losses) > self.patience:
            raise StopTraining


def paper_classifier(protocol="paper", nonlinear=True, n_experts=8, **overrides):
    """Return the classifier of Chen et al. (2022) for `make_cluster_patches` data.

    Parameters
    ----------
    protocol : {"paper", "code"}, default="paper"
        "paper" is the text (section 3.2, Algorithm 1, Theorem 4.2): one score per sample and
        the logistic loss, softmax gate, experts without biases from Gaussian weights,
        normalized gradient descent with the Frobenius norm and eta_r = M^2 eta.

        "code" is the authors' notebooks where they depart from it: two logits, softmaxed before
        the cross-entropy; the raw noisy score as gate; biases and uniform initial weights; the
        sum of the norms of weights and biases as normalizer; a router rate of 0.1; noise at
        prediction, too (`router="top1"` turns it off); their rule for stopping early.
        A single expert is trained by Adam on logits, with 40 filters each.
    nonlinear : bool, default=True
        Cubic activation; False is the linear expert.
    n_experts : int, default=8
        1 is the single expert.
    **overrides
        Any other parameter of MoEClassifier, those of a part as `router__gate`.

    Returns
    -------
    classifier : MoEClassifier

    Raises
    ------
    ValueError
        If `protocol` is unknown.

    Examples
    --------
    >>> from sklearn_moe.paper import paper_classifier
    >>> clf = paper_classifier("code", nonlinear=False, random_state=0)
    >>> clf.router.gate, clf.activation, clf.router.learning_rate
    ('logit', 'linear', 0.1)
    """
    builders = {"paper": _paper, "code": _code if n_experts > 1 else _code_single}
    if protocol not in builders:
        raise ValueError(f"protocol must be 'paper' or 'code', got {protocol!r}.")
    parameters = {
        "n_experts": n_experts,
        "activation": "cubic" if nonlinear else "linear",
        "batch_size": None,
        "tol": None,
    }
    parameters |= builders[protocol](n_experts, nonlinear)
    return MoEClassifier().set_params(**parameters | overrides)


_GRADIENT_DESCENT = {
    "solver": "normalized_sgd",
    "solver__schedule": "constant",
    "learning_rate_init": 0.001,
    "max_iter": 501,
}


def _paper(n_experts, nonlinear):
    return _GRADIENT_DESCENT | {
        "expert": expert("patch", 0.001),
        "loss": "margin",
        "router__learning_rate": 0.001 * n_experts**2,  # Theorem 4.2
    }


def _code(n_experts, nonlinear):
    return _GRADIENT_DESCENT | {
        "expert": expert("patch_conv", 0.001),
        "loss": "probabilities",
        "router": NOISY_AT_TEST,
        "router__gate": "logit",
        "solver": SUM_OF_NORMS,
        "router__learning_rate": 0.1,
        "callbacks": [NotebookStopping()],
    }


def _code_single(n_experts, nonlinear):
    return {
        "expert": expert("patch_conv", 1.0),
        "expert_width": 40,
        "solver": "adam",
        "learning_rate_init": 0.01 if nonlinear else 0.003,
        "solver__weight_decay": 5e-4,
        "max_iter": 801,
        "callbacks": [NotebookStopping(floor=0.0, patience=501)],
    }
