"""Pictures: folders of files, CIFAR-10's archive and the rotation task made of them."""

import hashlib
import os
import pickle
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sklearn_moe import MoEClassifier
from sklearn_moe.datasets import fetch_cifar10, load_image_folder, make_rotation_task
from sklearn_moe.datasets._rotation import _inscribed_side

REAL = os.environ.get("SKLEARN_MOE_CIFAR10")  # a folder with train/<class>/*.jpg


def noise(n_samples, channels=3, height=32, width=32, seed=0):
    """Return random pictures, uint8."""
    shape = (n_samples, channels, height, width)
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def save(picture, path):
    """Write a picture (3, h, w) to a file whose folder need not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.transpose(1, 2, 0)).save(path)


# ---------------------------------------------------------------------------- image folders


@pytest.fixture
def folder(tmp_path):
    """Two splits; "test" lacks the class "bee" and holds what does not count."""
    X = noise(6, height=5, width=7)
    save(X[0], tmp_path / "train" / "cat" / "b.png")
    save(X[1], tmp_path / "train" / "cat" / "a.PNG")
    save(X[2], tmp_path / "train" / "ant" / "1.png")
    save(X[3], tmp_path / "train" / "bee" / "1.png")
    save(X[4], tmp_path / "test" / "cat" / "1.png")
    save(X[5], tmp_path / "test" / "ant" / "1.png")
    (tmp_path / "test" / "ant" / "notes.txt").write_text("no picture")
    (tmp_path / "test" / "ant" / "._1.png").write_text("no picture either")
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
    assert train.target.dtype == np.int64
    assert train.target_names.tolist() == ["ant", "bee", "cat"]
    assert train.filenames[2] == str(root / "train" / "cat" / "a.PNG")
    assert train.DESCR == f"4 pictures of 5 x 7 pixels from {root / 'train'}"


def test_classes_have_the_same_index_in_every_split(folder):
    root, X = folder
    test = load_image_folder(str(root), "test")
    np.testing.assert_array_equal(test.data, X[[5, 4]])
    assert test.target_names[test.target].tolist() == ["ant", "cat"]
    assert test.target.tolist() == [0, 2]


def test_image_folder_options(folder, capsys, monkeypatch):
    root, X = folder
    data, target = load_image_folder(root, return_X_y=True, max_per_class=1)
    np.testing.assert_array_equal(data, X[[2, 3, 1]])
    assert target.tolist() == [0, 1, 2]
    assert not capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ipykernel", object())  # who watches sees a bar
    load_image_folder(root, verbose=1)
    assert "train: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("RGB", "JPEG"), ("RGBA", "png")])
def test_every_picture_becomes_rgb(tmp_path, mode, suffix):
    path = tmp_path / "train" / "one" / f"1.{suffix}"
    path.parent.mkdir(parents=True)
    Image.new(mode, (4, 4), "white").save(path)
    assert (load_image_folder(tmp_path).data == np.full((1, 3, 4, 4), 255)).all()


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(
    ("orientation", "as_stored"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright)),  # a viewer turns it clockwise
        (7, lambda upright: np.rot90(upright, 2).transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_pictures_are_upright(tmp_path, orientation, as_stored, suffix):
    upright = np.kron(noise(1, height=2, width=3)[0].transpose(1, 2, 0), np.ones((8, 8, 1)))
    upright = upright.astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "train" / "one" / f"1.{suffix}"
    path.parent.mkdir(parents=True)
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    picture = Image.fromarray(np.ascontiguousarray(as_stored(upright)))
    picture.save(path, exif=exif, **options)
    data = load_image_folder(tmp_path).data[0]
    np.testing.assert_allclose(data.transpose(1, 2, 0).astype(int), upright, atol=8)


@pytest.mark.parametrize(("dtype", "written"), [("<u2", "PNG"), ("<i4", "TIFF"), ("<f4", "TIFF")])
def test_more_than_8_bits_are_refused(tmp_path, dtype, written):
    path = tmp_path / "train" / "one" / "1.png"  # the content decides, not the suffix
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((4, 4), 300, dtype=dtype)).save(path, written)
    with pytest.raises(ValueError, match=r"1\.png holds 16-bit values .* Write 8-bit pictures\."):
        load_image_folder(tmp_path)


def no_root(root):
    return load_image_folder(root / "nowhere")


def no_split(root):
    return load_image_folder(root, "valid")


def no_classes(root):
    (root / "empty").mkdir()
    return load_image_folder(root, "empty")


def no_pictures(root):
    (root / "train" / "dog").mkdir()
    return load_image_folder(root)


def damaged(root, keep=40, name="x.png"):
    path = root / "train" / "ant" / name
    save(noise(1)[0], path)
    path.write_bytes(path.read_bytes()[:keep])
    return load_image_folder(root)


def cut_off(root):
    return damaged(root, keep=1000, name="x.jpg")


def not_a_picture(root):
    return damaged(root, keep=0)


def two_sizes(root):
    save(noise(1)[0], root / "train" / "bee" / "2.png")
    return load_image_folder(root)


@pytest.mark.parametrize(
    ("mistake", "error", "message"),
    [
        (no_root, FileNotFoundError, r"no folder .*nowhere\. Pass the folder that holds"),
        (no_split, ValueError, r"no split 'valid' in .*, which holds \['test', 'train'\]\. Pass"),
        (no_classes, ValueError, r"empty holds no class folders\. Put the pictures of every"),
        (no_pictures, ValueError, r"dog holds no picture, .* \.jpeg, \.jpg, \.png\. Add"),
        (damaged, OSError, r"x\.png cannot be read: .*\. Replace or remove it"),
        (cut_off, OSError, r"x\.jpg cannot be read: .*truncated.*\. Replace or remove it"),
        (not_a_picture, OSError, r"x\.png cannot be read: cannot identify .*\. Replace or"),
        (two_sizes, ValueError, r"1\.png has 5 x 7 pixels and .*2\.png has 32 x 32 .*resize\."),
    ],
)
def test_mistakes_in_folders_are_explained(folder, mistake, error, message):
    with pytest.raises(error, match=message):
        mistake(folder[0])


@pytest.mark.skipif(not REAL, reason="SKLEARN_MOE_CIFAR10 names no folder of CIFAR-10 pictures")
def test_cifar10_from_a_folder():
    pictures = load_image_folder(REAL, max_per_class=5)
    assert pictures.data.shape == (50, 3, 32, 32)
    assert pictures.target.tolist() == np.repeat(np.arange(10), 5).tolist()
    assert pictures.target_names[[0, 9]].tolist() == ["airplane", "truck"]
    assert 100 < pictures.data.mean() < 140
    X, _, groups = make_rotation_task(pictures.data, pictures.target, random_state=0)
    assert X.shape == (100, 3, 32, 32)
    assert np.bincount(groups).tolist() == [10] * 10


# ---------------------------------------------------------------------------- CIFAR-10


def as_python_2_wrote_it(content):
    """Pickle with the flags of a dtype as integers, which NumPy 2.4.0 to 2.4.4 warn about."""
    return pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10's archive with two pictures per batch, where the user may have put it."""
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
    for subset, rows in {"train": slice(10), "test": slice(10, 12), "all": slice(12)}.items():
        cifar10 = fetch_cifar10(data_home=home, subset=subset)
        np.testing.assert_array_equal(cifar10.data, X[rows])
        np.testing.assert_array_equal(cifar10.target, y[rows])
        assert cifar10.data.dtype == np.uint8
        assert cifar10.data.flags.c_contiguous
        assert cifar10.target.dtype == np.int64
        assert cifar10.target_names.tolist() == [f"class {k}" for k in range(10)]
        assert cifar10.DESCR.startswith("CIFAR-10: 60,000 color pictures")
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
    with pytest.raises(OSError, match=r"could not be downloaded from http.*refused.*put cifar-10-"):
        fetch_cifar10()
    # A damaged archive is downloaded anew, so the message is the same.
    (home / "cifar10" / CIFAR10.filename).write_bytes(b"half of it")
    with pytest.raises(OSError, match=r"could not be downloaded .*or read pictures that you have"):
        fetch_cifar10(data_home=home)


# ---------------------------------------------------------------------------- rotation task


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_every_picture_appears_once_in_either_class(dtype):
    images = noise(7).astype(dtype)
    images.flags.writeable = False
    X, y, groups = make_rotation_task(images, np.arange(7) + 10, random_state=0)
    assert X.shape == (14, 3, 32, 32)
    assert X.dtype == dtype
    assert sorted(zip(groups, y, strict=True)) == [(g, k) for g in range(10, 17) for k in (0, 1)]
    # The order is all that is random.
    X_0, y_0, groups_0 = make_rotation_task(images, np.arange(7) + 10, shuffle=False)
    assert y_0.tolist() == [0] * 7 + [1] * 7
    order = np.lexsort((groups, y))
    np.testing.assert_array_equal(X[order], X_0)
    np.testing.assert_array_equal(groups[order], groups_0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    "arrange",
    [
        lambda X: X.astype(X.dtype.newbyteorder()),
        lambda X: np.ascontiguousarray(X[:, ::-1])[:, ::-1],
        lambda X: np.ascontiguousarray(X[::-1, :, ::-1, ::-1])[::-1, :, ::-1, ::-1],
        lambda X: np.ascontiguousarray(X.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        np.asfortranarray,
    ],
    ids=["byte-order", "reversed-channels", "reversed", "channels-last-view", "fortran"],
)
def test_layouts_do_not_matter(arrange, dtype):
    images = noise(5, height=9, width=8).astype(dtype)
    X, _, _ = make_rotation_task(arrange(images), random_state=0)
    expected, _, _ = make_rotation_task(images, random_state=0)
    assert X.dtype == dtype
    np.testing.assert_array_equal(X, expected)


def test_half_precision_becomes_float32():
    half = (noise(5, height=8, width=8) / 255).astype(np.float16)
    X, _, _ = make_rotation_task(half, random_state=0)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, make_rotation_task(half.astype(np.float32), random_state=0)[0])


def test_random_state():
    images = noise(20, height=8, width=8)
    X, y, groups = make_rotation_task(images, random_state=0)
    again, other = (make_rotation_task(images, random_state=seed) for seed in (0, 1))
    np.testing.assert_array_equal(X, again[0])
    np.testing.assert_array_equal(y, again[1])
    assert (y != other[1]).any()
    # Without groups every picture is one.
    assert np.bincount(groups).tolist() == [2] * 20


def test_the_pictures_of_the_paper():
    """Equal, bit by bit, to the transforms of the authors' code on Pillow's pictures."""
    images = noise(5)
    X, _, _ = make_rotation_task(images, crop="paper", interpolation="nearest", shuffle=False)
    crop = transforms.Compose([transforms.CenterCrop(24), transforms.Resize(32)])
    rotate = transforms.RandomRotation((30, 30))
    pillow = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    # RandomRotation draws its only possible angle from PyTorch's global generator.
    turned = [transforms.functional.rotate(image, 30, rotate.interpolation) for image in pillow]
    expected = np.stack([np.asarray(crop(image)) for image in pillow + turned])
    np.testing.assert_array_equal(X, expected.transpose(0, 3, 1, 2))


ANGLES = [1, 15, 30, 45, 60, 89, 90, 133, 180, 270, -30]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("shape", [(32, 32), (33, 33), (8, 8), (4, 4), (20, 33), (5, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_corner_is_left_by_the_inscribed_crop(shape, dtype, interpolation, symmetric):
    white = np.full((2, 1, *shape), 255, dtype=dtype)
    for angle in ANGLES:
        X, _, _ = make_rotation_task(
            white,
            angle=angle,
            interpolation=interpolation,
            symmetric=symmetric,
            shuffle=False,
        )
        # float32 rounds, by far less than one of 256 shades
        np.testing.assert_allclose(X, 255, rtol=0 if dtype == np.uint8 else 1e-6)


@pytest.mark.parametrize(
    ("angle", "interpolation", "darkest"),
    [(30, "bilinear", 202), (30, "nearest", 255), (45, "bilinear", 60), (45, "nearest", 0)],
)
def test_corners_are_left_by_the_paper_crop(angle, interpolation, darkest):
    white = np.full((1, 3, 32, 32), 255, dtype=np.uint8)
    X, _, _ = make_rotation_task(
        white, angle=angle, crop="paper", interpolation=interpolation, shuffle=False
    )
    assert X[0].min() == 255
    assert X[1].min() == darkest


@pytest.mark.parametrize("angle", [10, 20, 30, 45, 70])
def test_the_inscribed_crop_wastes_nothing(angle):
    turned = F.rotate(torch.ones(1, 64, 64), angle, interpolation=InterpolationMode.BILINEAR)
    white = [F.center_crop(turned, [side, side]).min() > 1 - 1e-5 for side in range(2, 65, 2)]
    assert _inscribed_side(64, 64, angle) == 2 * sum(white)


def test_both_classes_show_the_same_square():
    images = noise(1)
    X, _, _ = make_rotation_task(images, shuffle=False, size=22)  # 22: nothing to resize
    np.testing.assert_array_equal(X[0], images[0, :, 5:27, 5:27])
    turned = F.rotate(torch.tensor(images[0]), 30, interpolation=InterpolationMode.BILINEAR)
    np.testing.assert_array_equal(X[1], turned[:, 5:27, 5:27])


def test_rotation_is_counterclockwise():
    images = noise(3, height=8, width=8)
    X, _, _ = make_rotation_task(images, angle=90, shuffle=False)
    np.testing.assert_array_equal(X[:3], images)
    np.testing.assert_array_equal(X[3:], np.rot90(images, axes=(2, 3)))
    X, _, _ = make_rotation_task(images, angle=180, symmetric=True, shuffle=False)
    np.testing.assert_array_equal(X[:3], np.rot90(images, -1, axes=(2, 3)))
    np.testing.assert_array_equal(X[3:], np.rot90(images, axes=(2, 3)))


def test_smoothness_is_a_clue_unless_symmetric():
    images = noise(50).astype(np.float32)

    def contrast(**params):
        X, y, _ = make_rotation_task(images, size=26, random_state=0, **params)
        original, rotated = X[y == 0].std(), X[y == 1].std()
        return rotated / original

    assert contrast() < 0.9
    assert contrast(symmetric=True) == pytest.approx(1, abs=0.01)


def test_shape_size_and_batches(monkeypatch):
    wide = noise(5, channels=1, height=20, width=33)
    X, _, _ = make_rotation_task(wide, random_state=0)
    assert X.shape == (10, 1, 20, 20)
    assert make_rotation_task(wide, size=16, random_state=0)[0].shape == (10, 1, 16, 16)
    monkeypatch.setattr("sklearn_moe.datasets._rotation._BATCH_VALUES", 2 * 20 * 33)
    np.testing.assert_array_equal(X, make_rotation_task(wide, random_state=0)[0])


@pytest.mark.parametrize(
    ("images", "params", "message"),
    [
        (
            noise(2)[:, 0],
            {},
            r"got images of shape \(2, 32, 32\)\. .*pass images\[:, np\.newaxis\]",
        ),
        (
            noise(2)[0],
            {},
            r"shape \(3, 32, 32\)\. .*single .*channels first, images\[np\.newaxis\]",
        ),
        (noise(2)[0].T, {}, r"single picture.*images\.transpose\(2, 0, 1\)\[np\.newaxis\]"),
        (
            noise(2).reshape(2, -1),
            {},
            r"images\.reshape\(len\(images\), n_channels, height, width\)",
        ),
        (
            noise(2).transpose(0, 2, 3, 1),
            {},
            r"make_rotation_task .*images\.transpose\(0, 3, 1, 2\)",
        ),
        (noise(2, 4).transpose(0, 2, 3, 1), {}, r"\(2, 32, 32, 4\)\. Channels come first: .*trans"),
        (noise(2, height=3), {}, r"at least 4 x 4 pixels .* got 3 x 32 .*Pass larger pictures"),
        (noise(2, channels=0), {}, r"images of shape \(2, 0, 32, 32\) has no pixels"),
        (noise(0), {}, r"0 sample\(s\) .* required by make_rotation_task"),
        (np.full((2, 3, 8, 8), np.nan), {}, r"Input images contains NaN"),
        (np.full((2, 3, 8, 8), np.inf), {}, r"Input images contains infinity"),
        (noise(2).astype(int), {}, r"uint8 .* or floats, got int64.*images\.astype\(np\.uint8\)"),
        (noise(2) > 127, {}, r"uint8 .* or floats, got bool"),
        (noise(2), {"groups": [0]}, r"inconsistent numbers of samples: \[2, 1\]"),
        (noise(2), {"groups": [[0, 1], [1, 0]]}, r"y should be a 1d array, got an array of shape"),
        (noise(2), {"angle": 0}, r"angle=0 leaves a picture as it is: .*Pass an angle that"),
        (noise(2), {"angle": -720.0}, r"angle=-720\.0 leaves a picture as it is"),
        (noise(2), {"crop": "none"}, r"'crop' parameter .* must be a str among"),
    ],
)
def test_mistakes_in_rotation_tasks_are_explained(images, params, message):
    with pytest.raises(ValueError, match=message):
        make_rotation_task(images, **params)


def test_the_estimator_takes_the_pictures_as_they_are():
    X, y, _ = make_rotation_task(noise(10, height=8, width=8), random_state=0)
    clf = MoEClassifier(n_experts=1, max_iter=1, tol=None, random_state=0).fit(X, y)
    assert clf.predict(X).shape == y.shape
