"""Head: what the outputs of the experts mean. The task of a mixture is here and nowhere else."""

from typing import ClassVar

from torch import Tensor, nn

__all__ = ["Head"]


class Head(nn.Module):
    """From the outputs of a mixture to a loss and a prediction.

    Subclasses say what an output means. They get `n_targets` and may ask for several outputs per
    target, or for one less.

    Parameters
    ----------
    n_targets : int
        Classes, labels or numbers to be predicted of a sample.

    Attributes
    ----------
    kind : {"classes", "labels", "numbers"}
        What is predicted: one of several classes, y (n_samples,) holding their indices; several
        labels, y (n_samples, n_targets) of zeros and ones; or numbers, y (n_samples, n_targets)
        of mean 0 and variance 1.
    n_outputs : int
        Outputs of an expert.
    blind_error : float
        The `error` of a guess that has not looked at the sample.
    score_name : str
        Short name of `score`, as in `valid_acc` of the history.
    """

    kind: ClassVar[str]
    blind_error: float = 1.0
    score_name: ClassVar[str] = "score"

    def __init__(self, n_targets: int):
        super().__init__()
        self.n_targets = n_targets
        self.n_outputs = n_targets

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the mean loss, as criteria of torch do."""
        return self.loss(output, y).mean()

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each sample, (n_samples,), given outputs (n_samples, n_outputs)."""
        raise NotImplementedError

    def losses(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each expert's own answer, (n_samples, n_experts).

        `answers` are (n_samples, n_experts, n_outputs).
        """
        n_experts = answers.shape[1]
        loss = self.loss(answers.flatten(0, 1), y.repeat_interleave(n_experts, 0))
        return loss.unflatten(0, (-1, n_experts))

    def predict(self, output: Tensor) -> Tensor:
        """Return probabilities or numbers, (n_samples, n_targets)."""
        raise NotImplementedError

    def decision(self, output: Tensor) -> Tensor:
        """Return scores of classes or labels, (n_samples, n_targets), of which the higher wins.

        Of classes, their softmax is `predict`, of labels their logistic function.
        """
        proba = self.predict(output)
        return proba.logit() if self.kind == "labels" else proba.log()

    def error(self, output: Tensor, y: Tensor) -> Tensor:
        """Return how wrong each sample is, between 0 and 1, (n_samples,).

        It sets the pace of `learning_rate="residual"`.
        """
        raise NotImplementedError

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        """Return what early stopping maximizes the mean of, (n_samples,)."""
        raise NotImplementedError

    @staticmethod
    def mix(log_gate: Tensor, answers: Tensor) -> Tensor:
        """Return the output of the mixture of the experts' distributions, for `router="soft"`.

        Parameters
        ----------
        log_gate : (n_samples, n_experts)
        answers : (n_samples, n_experts, n_outputs)

        Returns
        -------
        (n_samples, ...)
            An output that `loss`, `predict`, `error` and `score` understand.
        """
        raise NotImplementedError
