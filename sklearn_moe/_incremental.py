"""Training chunk by chunk: `partial_fit`."""

import copy
from itertools import chain

import numpy as np
from sklearn.utils import check_random_state

from ._data.streams import read_batches
from ._devices import usual_modes
from ._task import TrainingData, as_rows

__all__ = ["IncrementalTraining"]


class IncrementalTraining:
    """The part of an estimator that goes on from where it stands."""

    @usual_modes()
    def _partial_fit(self, X, y, sample_weight, **target):
        """Train for one epoch on arrays, on batches or on a dataset.

        The net is trained as it is; its optimizer keeps its state, too.
        """
        if self.early_stopping is True:
            raise ValueError(
                "partial_fit does not support early_stopping=True: which samples to hold out, and "
                "when to stop, is up to the caller. Use early_stopping='auto' or False."
            )
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
        data = data._replace(training=(chunk := next(chunks)))
        chunks = chain([chunk], chunks)
        with net.undone_if_diverged():
            interrupted = draft._train(net, data, 1, anneal=False, chunks=chunks)
        none = np.zeros(self.n_experts, np.float32)
        self._remember(draft, net, lambda: sum(answers, none))
        if interrupted:
            raise KeyboardInterrupt
        return self

    def _chunks(self, net, batches, answers):
        """Yield batches as rows; to `answers` add what each expert answers once it was trained."""
        for batch in batches:
            mean_weight = self._weights_seen.mean
            rows = as_rows(batch, 1.0, self._dtype, net.device)
            yield rows
            answers.append(self._count_answers(net, rows) * mean_weight)
