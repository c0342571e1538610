"""Images from folders of files, and from the archive of CIFAR-10."""

import hashlib
import pickle
import tarfile
from functools import partial

import numpy as np
import pytest
from helpers import noise_images as noise
from helpers import raises
from PIL import Image
from torchvision.datasets import CIFAR10

from sklearn_moe.datasets import fetch_cifar10, load_image_folder


def save(image, path):
    """Write an image (3, h, w) to a file whose folder need not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.transpose(1, 2, 0)).save(path)


# ---------------------------------------------------------------------------- image folders


@pytest.fixture
def folder(tmp_path):
    """Two splits; "test" lacks the class "bee" and holds what does not count."""
    X = noise(6, height=5, width=7)
    train = ("train/cat/b.png", "train/cat/a.PNG", "train/ant/1.png", "train/bee/1.png")
    for image, path in zip(X, (*train, "test/cat/1.png", "test/ant/1.png"), strict=True):
        save(image, tmp_path / path)
    (tmp_path / "test" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "test" / "ant" / "._1.png").write_text("no image either")
    (tmp_path / "test" / ".cache").mkdir()
    (tmp_path / "README.md").write_text("not a split")
    return tmp_path, X


def test_image_folder(folder):
    root, X = folder
    train = load_image_folder(root)
    assert train.data.dtype == np.uint8
    assert train.data.flags.c_contiguous
    np.testing.assert_array_equal(train.data, X[[2, 3, 1, 0]])  # ant, bee, cat a, cat b
    np.testing.assert_array_equal(train.target, [0, 1, 2, 2])
    assert (train.target.dtype, train.target_names.tolist()) == (np.int64, ["ant", "bee", "cat"])
    assert train.filenames[2] == str(root / "train" / "cat" / "a.PNG")

    test = load_image_folder(str(root), "test")  # classes have the same index in every split
    np.testing.assert_array_equal(test.data, X[[5, 4]])
    assert (test.target.tolist(), test.target_names.tolist()) == ([0, 2], ["ant", "bee", "cat"])


def test_image_folder_as_arrays(folder):
    root, X = folder
    data, target = load_image_folder(root, return_X_y=True)
    np.testing.assert_array_equal(data, X[[2, 3, 1, 0]])
    assert target.tolist() == [0, 1, 2, 2]


def one_image(root, image, suffix, **options):
    path = root / "train" / "one" / f"1.{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return root


def test_every_image_becomes_rgb(tmp_path):
    for number, (mode, suffix) in enumerate([("L", "jpg"), ("RGB", "JPEG"), ("RGBA", "png")]):
        root = one_image(tmp_path / str(number), Image.new(mode, (4, 4), "white"), suffix)
        assert (load_image_folder(root).data == np.full((1, 3, 4, 4), 255)).all()


def test_images_are_upright(tmp_path):
    upright = np.kron(noise(1, height=2, width=3)[0].transpose(1, 2, 0), np.ones((8, 8, 1)))
    upright = upright.astype(np.uint8)
    exif = Image.Exif()
    stored = {1: upright, 5: upright.transpose(1, 0, 2), 6: np.rot90(upright)}
    for orientation, pixels in stored.items():
        exif[0x0112] = orientation  # 6: a viewer turns it clockwise
        image = Image.fromarray(np.ascontiguousarray(pixels))
        root = one_image(tmp_path / str(orientation), image, "png", exif=exif)
        np.testing.assert_array_equal(load_image_folder(root).data[0].transpose(1, 2, 0), upright)


def test_more_than_8_bits_are_refused(tmp_path):
    for dtype, written in [("<u2", "PNG"), ("<i4", "TIFF"), ("<f4", "TIFF")]:
        # The content decides, not the suffix.
        image = Image.fromarray(np.full((4, 4), 300, dtype=dtype))
        one_image(tmp_path, image, "png", format=written)
        with pytest.raises(ValueError, match=r"1\.png holds 16-bit values .* Write 8-bit images"):
            load_image_folder(tmp_path)


def damaged(root, keep, name):
    path = root / "train" / "ant" / name
    save(noise(1)[0], path)
    path.write_bytes(path.read_bytes()[:keep])


MISTAKES = {  # what the error says: what is done to the folder
    r"valid holds .*\['test', 'train'\]\. Pass": lambda root: None,
    "empty holds no class folders": lambda root: (root / "empty").mkdir(),
    r"dog holds .* \.png\. Add": lambda root: (root / "train/dog").mkdir(),
    r"x\.png cannot be read: .*Replace": partial(damaged, keep=40, name="x.png"),
    r"x\.jpg cannot .*truncated": partial(damaged, keep=1000, name="x.jpg"),
    "cannot be read: cannot identify": partial(damaged, keep=0, name="x.png"),
    "5 x 7 .*32 x 32": lambda root: save(noise(1)[0], root / "train/bee/2.png"),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_in_folders_are_explained(folder, message):
    MISTAKES[message](folder[0])
    split = message.split()[0] if message.startswith(("valid", "empty")) else "train"
    with pytest.raises(OSError if "cannot" in message else ValueError, match=message):
        load_image_folder(folder[0], split)
    raises(FileNotFoundError, "nowhere", load_image_folder, folder[0] / "nowhere")


# ---------------------------------------------------------------------------- CIFAR-10


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
    with pytest.raises(OSError, match=r"could not be downloaded .*or read images that you have"):
        fetch_cifar10(data_home=home)
