"""Images from the archive of CIFAR-10."""

import hashlib
import pickle
import tarfile

import numpy as np
import pytest
from helpers import noise_images as noise
from helpers import raises
from torchvision.datasets import CIFAR10

from sklearn_moe.datasets import fetch_cifar10


def as_python_2_wrote_it(content):
    """Pickle with the flags of a dtype as integers, which NumPy 2.4.0 to 2.4.4 warn about."""
    return pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10's archive with two images per batch, where the user may have put it."""
    X = noise(12)
    y = np.arange(12) % 10
    names = [name for name, _ in CIFAR10.train_list + CIFAR10.test_list]
    files = {
        name: {"data": X[2 * i : 2 * i + 2].reshape(2, -1), "labels": y[2 * i : 2 * i + 2].tolist()}
        for i, name in enumerate(names)
    }
    files["batches.meta"] = {"label_names": [f"class {k}" for k in range(10)]}

    source, target = tmp_path / CIFAR10.base_folder, tmp_path / "home" / "cifar10"
    source.mkdir()
    target.mkdir(parents=True)
    md5 = {}
    for name, content in files.items():
        pickled = as_python_2_wrote_it(content)
        (source / name).write_bytes(pickled)
        md5[name] = hashlib.md5(pickled).hexdigest()
    path = target / CIFAR10.filename
    with tarfile.open(path, "w:gz") as tar:
        tar.add(source, arcname=source.name)

    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in names[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [[names[5], md5[names[5]]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    # Nothing listens there: a test that would download fails.
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    return tmp_path / "home", X, y


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default:DeprecationWarning")  # unpacking
def test_cifar10(archive):
    home, X, y = archive
    for subset, rows in {"train": slice(10), "test": slice(10, 12)}.items():
        cifar10 = fetch_cifar10(data_home=home, subset=subset)
        np.testing.assert_array_equal(cifar10.data, X[rows])
        np.testing.assert_array_equal(cifar10.target, y[rows])
        assert cifar10.data.dtype == np.uint8
        assert cifar10.data.flags.c_contiguous
        assert cifar10.target.dtype == np.int64
        assert cifar10.target_names.tolist() == [f"class {k}" for k in range(10)]
    # Unpacked once, the archive is needed no more.
    (home / "cifar10" / CIFAR10.filename).unlink()
    data, target = fetch_cifar10(data_home=str(home), download_if_missing=False, return_X_y=True)
    np.testing.assert_array_equal(data, X[:10])
    np.testing.assert_array_equal(target, y[:10])


def test_cifar10_that_is_not_there_is_explained(archive, tmp_path, monkeypatch):
    home, _, _ = archive
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(
        OSError, match=r"not complete in .*elsewhere.*Pass download_if_missing=True"
    ):
        fetch_cifar10(download_if_missing=False)
    raises(OSError, r"refused.*could not be downloaded from http.*Put cifar-10-", fetch_cifar10)
    # A damaged archive is downloaded anew, so the message is the same.
    (home / "cifar10" / CIFAR10.filename).write_bytes(b"half of it")
    with pytest.raises(OSError, match=r"could not be downloaded .*and call again"):
        fetch_cifar10(data_home=home)
