"""SIGKILL at random moments of a fit, also in the middle of a write: it goes on all the same."""

import json
import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import json, os, random, signal, sys, tempfile, time, warnings
    from pathlib import Path
    import joblib, numpy as np, torch
    from skorch.callbacks import Callback
    from sklearn_moe import MoEClassifier, MoERegressor
    from sklearn_moe.checkpoints import FitCheckpoint

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    X = np.random.default_rng(0).normal(size=(120, 3, 4))
    y = (X[:, 0, 0] > 0).astype(int)
    options = {"n_experts": 3, "tol": None, "batch_size": 30, "random_state": 0}
    FITS = [
        (MoEClassifier(**options, max_iter=40), X, y),
        (MoEClassifier(**options, max_iter=30, router="topk", upcycle=0.5, balance="bias"), X, y),
        (MoEClassifier(**options, max_iter=30, early_stopping=True), X[:, 0], y),
        (MoEClassifier(**options, max_iter=30), X[:, 0], y),
        (MoERegressor(**options, max_iter=40, solver="sgd", momentum=0.9), X, X[:, 1, 1]),
    ]

    class Count(Callback):
        def on_train_begin(self, net, **kwargs):
            self.n_epochs_run = 0

        def on_epoch_end(self, net, **kwargs):
            self.n_epochs_run += 1

    def slowly(function):
        def slow(*args):
            time.sleep(0.002)
            function(*args)
            time.sleep(0.002)
        return slow

    def start(number, folder, slow=False):
        "Fit in a process of its own; return its id and where it tells what became of it."
        answer, told = os.pipe()
        child = os.fork()
        if child:
            os.close(told)
            return child, answer
        signal.alarm(120)  # rather than wait for ever
        if slow:
            os.replace, os.fsync = slowly(os.replace), slowly(os.fsync)
        model, *data = FITS[number]
        count = Count()
        where = folder and FitCheckpoint(folder, every=0)
        model.set_params(checkpoint=where, callbacks=[count]).fit(*data)
        model.set_params(checkpoint=None, callbacks=None)
        os.write(told, json.dumps([joblib.hash(model), count.n_epochs_run]).encode())
        os._exit(0)

    def finish(number, folder, slow=False):
        began = time.perf_counter()
        child, answer = start(number, folder, slow)
        with open(answer, "rb") as file:
            result = json.loads(file.read())
        os.waitpid(child, 0)
        return *result, time.perf_counter() - began

    for model, *data in FITS:  # what torch imports by then is not imported by every process
        model.fit(*data)
    moments = random.Random(0)
    expected = [finish(number, None)[0] for number in range(len(FITS))]
    lasts = {}
    for number in range(len(FITS)):
        for slow in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                lasts[number, slow] = finish(number, folder, slow)[2]
    found = {"killed": 0, "stored": 0, "in a write": 0, "same": 0, "epochs saved": 0}
    while found["killed"] < int(sys.argv[1]):
        number, slow = found["killed"] % len(FITS), found["killed"] % 2 == 1
        with tempfile.TemporaryDirectory() as folder:
            child, answer = start(number, folder, slow)
            time.sleep(moments.uniform(0, lasts[number, slow]))
            os.kill(child, signal.SIGKILL)
            died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            os.close(answer)
            if not died:
                continue  # it was faster
            names = [path.name for path in Path(folder).iterdir()]
            model, n_epochs_run, _ = finish(number, folder)
            found["killed"] += 1
            found["stored"] += any("checkpoint" in name for name in names)
            found["in a write"] += any(name.endswith(".part") for name in names)
            found["same"] += model == expected[number]
            found["epochs saved"] += FITS[number][0].max_iter - n_epochs_run
    print(json.dumps(found))
    """
)


@pytest.mark.slow
def test_at_random_moments():
    command = [sys.executable, "-c", SCRIPT, "50"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert shown.returncode == 0, shown.stderr
    print(shown.stdout)
    found = json.loads(shown.stdout)
    assert found["same"] == found["killed"] == 50
    assert found["stored"] > 10
    assert found["in a write"] > 3
    assert found["epochs saved"] > 100
