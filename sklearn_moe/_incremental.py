"""Training chunk by chunk: `partial_fit`."""

import copy
from itertools import chain

import numpy as np
from sklearn.utils import check_random_state

from ._batches import read_batches
from ._data import Rows, storage_device
from ._hashing import in_share
from ._inputs import check_training_data, rows_of
from ._modes import usual_modes
from ._task import TrainingData

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
        rng = check_random_state(self._next_seed if resume else self.random_state)
        reader = read_batches(X, y, sample_weight, rng)
        first = reader.first(self.net_.batch_size if resume else None)
        first = draft._prepare(*first, resume=resume, **target)
        data = TrainingData(first, None, draft._settings(first))
        if resume:
            draft._check_architecture(data.settings)
        net = self.net_ if resume else draft._build(data)
        rest = (draft._prepare_more(*batch) for batch in reader.rest(net.batch_size))
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

    def _prepare_more(self, X, y, sample_weight):
        """Return checked samples, y as the net takes it, and weights."""
        X, y, weight = check_training_data(self, X, y, sample_weight, reset=False)
        return X, self._target.encode(y, weight.dtype), weight

    def _chunks(self, net, batches, answers):
        """Yield rows to train on, and those held out of them or None.

        A batch of which all is held out yields nothing. To `answers` it adds what each expert
        answers of a chunk, once that was trained on.
        """
        for batch in batches:
            held_out = None
            if self.early_stopping is True:
                batch, held_out = _split(batch, self.validation_fraction)
            if batch is not None:
                rows = _as_rows(batch, net)
                yield rows, held_out and _as_rows(held_out, net)
                answers.append(self._count_answers(net, rows))

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
    held_out = in_share(batch[0], share)
    indices = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return (rows_of(batch, index) if len(index) else None for index in indices)


def _as_rows(batch, net):
    rows = Rows.from_arrays(*batch, storage_device(batch[0], net.device))
    dtype = next(net.module_.parameters()).dtype  # that of the first X
    y = rows.y.to(dtype) if rows.y.is_floating_point() else rows.y
    return rows._replace(y=y, weight=rows.weight.to(dtype))
