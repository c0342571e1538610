"""The models that peers.py compares: some of tables_models.py, and mixtures made elsewhere."""

from functools import partial
from importlib.util import find_spec

import numpy as np
import tables_models
import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from tables_models import MLP, MOE, elsewhere, standardized
from torch import nn

from sklearn_moe import metrics

__all__ = ["MOE", "PACKAGES", "PEERS", "bare", "dead_experts", "missing_package"]

TREES, PLAIN, DATALETS, CGMM = "HistGradientBoosting", "plain mixture", "datalets", "cgmm"
HME, REAL_MLP = "HME", "RealMLP"
PACKAGES = {HME: "neural-trees", DATALETS: "datalets", CGMM: "cgmm", REAL_MLP: "pytabkit"}
N_EXPERTS, WIDTH = 8, 100  # those of MoEClassifier


class Mixture(nn.Module):
    """What one writes by hand: a softmax gate over small multilayer perceptrons."""

    def __init__(self, n_features=1, n_classes=None, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.n_classes = n_classes
        self.gate = nn.Linear(n_features, N_EXPERTS)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n_features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_classes or 1))
            for _ in range(N_EXPERTS)
        )

    def forward(self, X):
        """Return probabilities, of which skorch takes the logarithm, or numbers."""
        X = X.float()
        answers = torch.stack([expert(X) for expert in self.experts], dim=1)
        if self.n_classes:
            answers = answers.softmax(dim=2)
        mixed = (self.gate(X).softmax(dim=1).unsqueeze(2) * answers).sum(dim=1)
        return mixed if self.n_classes else mixed.squeeze(1)


class KnowShapes(Callback):
    """Tell the module what only `fit` knows, as the documentation of skorch suggests."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Make the module anew."""
        n_classes = len(np.unique(y)) if isinstance(net, NeuralNetClassifier) else None
        net.set_params(module__n_features=X.shape[1], module__n_classes=n_classes)


def plain(net, seed):
    """Return a net of skorch with the budget and the steps of scikit-learn's MLP."""
    return net(
        Mixture,
        module__seed=seed,
        optimizer=torch.optim.Adam,
        lr=0.001,
        batch_size=200,
        max_epochs=200,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks=[KnowShapes],
        verbose=0,
    )


def of_tables(kind, names):
    """Return models of tables_models.py by name."""
    return {name: tables_models.MODELS[kind][name] for name in names}


# Each value is a function of the seed.
PEERS = {
    "classification": {
        **of_tables("classification", (MOE, MLP, TREES)),
        PLAIN: partial(plain, NeuralNetClassifier),
        **of_tables("classification", (HME,)),
        DATALETS: elsewhere("datalets", "PartitionedClassifier", progress=False),
        **of_tables("classification", (REAL_MLP,)),
    },
    "regression": {
        **of_tables("regression", (MOE, MLP, TREES)),
        PLAIN: lambda seed: standardized(plain(NeuralNetRegressor, seed)),
        DATALETS: elsewhere("datalets", "PartitionedRegressor", progress=False),
        CGMM: elsewhere("cgmm", "MixtureOfExpertsRegressor"),
        **of_tables("regression", (REAL_MLP,)),
    },
}


def bare(model):
    """Return a regressor without what standardizes its target."""
    return getattr(model, "regressor_", getattr(model, "regressor", model))


def gates_of_plain(net, X):
    """Return the gate's logits of a plain mixture."""
    with torch.no_grad():
        return net.module_.gate(torch.as_tensor(X, dtype=torch.float32)).numpy()


# How many samples each expert answers first, of the peers that can be asked.
COUNTS = {
    MOE: lambda model, X: np.bincount(model.apply(X), minlength=len(model.expert_load_)),
    PLAIN: lambda net, X: np.bincount(gates_of_plain(net, X).argmax(1), minlength=N_EXPERTS),
    HME: lambda model, X: model.to_hard_router().route_counts(X),
    DATALETS: lambda model, X: [
        (model.predict_cluster(X) == cluster).sum() for cluster in model.router_.clusters_
    ],
    CGMM: lambda model, X: np.bincount(
        model.responsibilities(X).argmax(1), minlength=model.n_components
    ),
}


def dead_experts(name, model, X):
    """Return how many experts answer less than a quarter of an equal share first, and of how many.

    Nothing of a model that has no experts, or shows none.
    """
    if name not in COUNTS:
        return {}
    counts = COUNTS[name](bare(model), X)
    dead = metrics.dead_experts(counts, threshold=0.25 / len(counts))
    return {"dead": len(dead), "experts": len(counts)}


def missing_package(name):
    """Return what to install for a model that is not there, or None."""
    package = PACKAGES.get(name)
    return package if package and find_spec(package.replace("-", "_")) is None else None
