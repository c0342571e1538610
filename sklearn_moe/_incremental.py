"""Training chunk by chunk: `partial_fit`."""

import copy
from itertools import chain

import numpy as np
from sklearn.utils import check_random_state

from ._batches import read_batches
from ._hashing import in_share
from ._inputs import rows_of
from ._modes import usual_modes
from ._task import TrainingData, as_rows

__all__ = ["IncrementalTraining"]


class IncrementalTraining:
    """The part of an estimator that goes on from where it stands."""

    @usual_modes()
    def _partial_fit(self, X, y, sample_weight, **target):
        """Train for one epoch on arrays, on batches or on a dataset.

        The net is trained as it is; its optimizer keeps its state, too.
        """
        resume = self.__sklearn_is_fitted__()
        draft = copy.copy(self)
        draft._random_state = check_random_state(self._next_seed if resume else self.random_state)
        reader = read_batches(X, y, sample_weight, draft._random_state)
        first = reader.first(self.net_.batch_size if resume else None)
        first = draft._prepare(*first, resume=resume, goes_on=resume, **target)
        data = TrainingData(first, None, draft._settings(first), draft._dtype)
        if resume:
            draft._check_architecture(data.settings)
        net = self.net_ if resume else draft._build(data)
        rest = (
            draft._prepare(*batch, resume=True, goes_on=True)
            for batch in reader.rest(net.batch_size)
        )
        answers = []
        chunks = draft._chunks(net, chain([first], rest), answers)
        if (chunk := next(chunks, None)) is None:
            return self._nothing_to_learn()
        data = data._replace(training=chunk[0])
        chunks = chain([chunk], chunks)
        with net.undone_if_diverged():
            interrupted = draft._train(net, data, 1, anneal=False, chunks=chunks)
        none = np.zeros(self.n_experts, np.float32)
        self._remember(draft, net, lambda: sum(answers, none))
        if interrupted:
            raise KeyboardInterrupt
        return self

    def _chunks(self, net, batches, answers):
        """Yield rows to train on, and those held out of them or None.

        A batch of which all is held out yields nothing. To `answers` it adds what each expert
        answers of a chunk, once that was trained on.
        """
        for batch in batches:
            held_out, mean_weight = None, self._weights_seen.mean
            if self.early_stopping is True:
                batch, held_out = _split(batch, self.validation_fraction)
            if batch is not None:
                rows = as_rows(batch, 1.0, self._dtype, net.device)
                yield rows, held_out and as_rows(held_out, 1.0, self._dtype, net.device)
                answers.append(self._count_answers(net, rows) * mean_weight)

    def _nothing_to_learn(self):
        """Return the model as it is, if there is one."""
        if not self.__sklearn_is_fitted__():
            raise ValueError(
                "All samples of the first call are held out by early_stopping=True and "
                f"validation_fraction={self.validation_fraction}. Begin with more samples."
            )
        return self


def _split(batch, share):
    """Return what is trained on and what is not, the same rows whenever they are met."""
    held_out = in_share(batch.X, share)
    indices = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return (rows_of(batch, index) if len(index) else None for index in indices)
