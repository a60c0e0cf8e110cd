"""Files of users: what is read, what is refused, and that nothing in them is run."""

import argparse
import importlib.util
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import implreg
from implreg.errors import InputError
from implreg.files import LAYERS, import_network, read_network, read_paths
from implreg.networks import mlp, resnet, vgg


class Payload:
    """What a malicious file holds: unpickled as usual, it runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class Stranger(nn.Module):
    """A network of a class that this package does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)


KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")


def build() -> nn.Module:
    return mlp(3, 5, 2, seed=0)


def refused(read: Callable[[], object]) -> str:
    """The one sentence with which `read` is refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            read()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and "; " in sentence
    return sentence


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[k], theirs[k]) for k in ours)


# Networks


@pytest.mark.parametrize("suffix", [".pt", ".PTH"])
def test_a_whole_network_of_torch_layers_is_read(tmp_path: Path, suffix: str) -> None:
    net = nn.Sequential(
        nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.1)),
        nn.Upsample(scale_factor=2),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        nn.Dropout(),
        nn.Identity(),
        nn.Flatten(),
        nn.Linear(16, 3),
        nn.GELU(),
    )
    net(torch.randn(5, 1, 8, 8))  # running statistics
    file = tmp_path / f"net{suffix}"
    torch.save(net, file)
    before = torch.serialization.get_safe_globals()
    read = read_network(file)
    assert same(net, read)
    assert net.training and not any(m.training for m in read.modules())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(net.eval()(x), read(x))
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_what_a_caller_allows_stays_allowed(tmp_path: Path) -> None:
    torch.save(build(), tmp_path / "net.pt")
    with torch.serialization.safe_globals([nn.Linear]):
        read_network(tmp_path / "net.pt")
        assert nn.Linear in torch.serialization.get_safe_globals()


@pytest.mark.parametrize("make", [lambda: vgg(3, seed=0), lambda: resnet(10, seed=0), build])
def test_networks_of_this_package_are_read_whole(
    tmp_path: Path, make: Callable[[], nn.Module]
) -> None:
    torch.save(make(), tmp_path / "net.pt")
    assert same(read_network(tmp_path / "net.pt"), make())


def test_state_from_before_torch_counted_batches_is_read(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))

    net = make()
    net(torch.randn(5, 1, 8, 8))
    state = net.state_dict()
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "old.pt")
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(read_network(tmp_path / "old.pt", make)(x), net.eval()(x))


def test_every_allowed_layer_runs_no_code_but_that_of_torch_and_ours() -> None:
    for layer in LAYERS:
        assert issubclass(layer, nn.Module)
        assert layer.__module__.startswith(("torch.nn.modules.", "implreg.networks"))


@pytest.mark.parametrize("wrap", [None, *KEYS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_dict_fills_the_network_in_its_own_dtype(
    tmp_path: Path, wrap: str | None, dtype: torch.dtype
) -> None:
    saved = mlp(3, 5, 2, seed=7, dtype=dtype)
    state: Any = saved.state_dict()
    torch.save({wrap: state, "epoch": 3} if wrap else state, tmp_path / "net.pt")
    read = read_network(tmp_path / "net.pt", build)
    assert same(read, saved)
    assert not read.training
    assert all(p.dtype == dtype and p.requires_grad for p in read.parameters())


def test_of_several_keys_the_first_with_a_network_counts(tmp_path: Path) -> None:
    saved, other = mlp(3, 5, 2, seed=7), mlp(3, 5, 2, seed=8)
    settings = {"state_dict": {"width": 5}, "model": "mlp"}
    torch.save(
        {**settings, "params": other.state_dict(), "net": saved.state_dict()}, tmp_path / "net.pt"
    )
    assert same(read_network(tmp_path / "net.pt", build), saved)
    torch.save(settings, tmp_path / "none.pt")
    assert "holds the names state_dict, model;" in refused(
        lambda: read_network(tmp_path / "none.pt", build)
    )


def lightning(file: Path, *names: str, **more: object) -> nn.Module:
    """A checkpoint as Lightning writes it, of a network whose names begin with `model.`."""
    saved = mlp(3, 5, 2, seed=7)
    state = {f"model.{name}": value for name, value in saved.state_dict().items()}
    checkpoint = {
        "epoch": 2,
        "global_step": 300,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.ones(())}},
        "optimizer_states": [torch.optim.Adam(saved.parameters()).state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 5, "lr": 1e-3},
    }
    state.update({name: torch.ones(2) for name in names})
    torch.save(checkpoint | more, file)
    return saved


def test_a_checkpoint_of_lightning_is_read(tmp_path: Path) -> None:
    saved = lightning(tmp_path / "last.ckpt")
    assert same(read_network(tmp_path / "last.ckpt", build), saved)


def test_what_else_a_checkpoint_of_lightning_has_is_told(tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    lightning(file, "loss.weight")
    sentence = refused(lambda: read_network(file, build))
    assert f"got {file} with 1 unknown (loss.weight); name the" in sentence
    lightning(file, "model.6.weight")
    assert "with 1 unknown (model.6.weight); name" in refused(lambda: read_network(file, build))
    lightning(file, hyper_parameters=argparse.Namespace(width=5))
    sentence = refused(lambda: read_network(file, build))
    assert "asks for argparse.Namespace, which was not run; save net.state_dict()" in sentence


# Names of parameters

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
WORDS = st.sampled_from(("model", "net", "backbone", "weight", "a", *WRAPPERS))


class Named(nn.Module):
    """A network with parameters of any names."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        for name in names:
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, nn.Module())
                place = place.get_submodule(part)
            place.register_parameter(last, nn.Parameter(torch.zeros(1)))


def read_named(folder: Path, own: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """Which name of the file each name of the network got its value from."""
    names = list(given)
    file = folder / "named.pt"
    torch.save({name: torch.tensor([float(i)]) for i, name in enumerate(names)}, file)
    net = read_network(file, lambda: Named(own))
    return {name: names[int(value)] for name, value in net.state_dict().items()}


@given(prefix=st.lists(WORDS, max_size=3), places=st.lists(st.integers(0, 3), max_size=4))
def test_names_behind_any_prefix_and_wrappers_are_found(
    tmp_path_factory: pytest.TempPathFactory, prefix: list[str], places: list[int]
) -> None:
    own = ["0.conv.weight", "0.conv.bias", "model.head.weight", "scale"]
    put = {}
    for name in own:
        parts = name.split(".")
        for i, place in enumerate(places):  # such as a block that is compiled, in all its names
            if name.startswith(("0.conv", "model.head")):
                parts.insert(min(place, len(parts) - 1), WRAPPERS[i])
        put[name] = ".".join([*prefix, *parts])
    assert read_named(tmp_path_factory.mktemp("named"), own, put.values()) == put


NAME = st.lists(st.sampled_from(("module", "_orig_mod", "model", "0")), max_size=3).map(
    lambda parts: ".".join([*parts, "w"])
)


@given(own=st.sets(NAME, min_size=1, max_size=4), given=st.sets(NAME, min_size=1, max_size=4))
def test_names_never_get_what_is_not_theirs(
    tmp_path_factory: pytest.TempPathFactory, own: set[str], given: set[str]
) -> None:
    def bare(name: str) -> str:
        return ".".join(part for part in name.split(".") if part not in WRAPPERS)

    try:
        found = read_named(tmp_path_factory.mktemp("named"), own, given)
    except InputError:
        assert own != given
        return
    assert set(found.values()) == given and len(found) == len(given)  # all are used, and once
    if own == given:
        assert all(name == source for name, source in found.items())
    starts = {bare(source).removesuffix(bare(name)) for name, source in found.items()}
    assert len(starts) == 1 and "0" not in starts.pop().split(".")


@pytest.mark.parametrize(
    ("own", "given", "told"),
    [
        ("model.a", "a", "1 missing (model.a), 1 unknown (a)"),  # nothing is put before names
        ("a b", "model.a b", "1 missing (a), 1 unknown (model.a)"),  # some with and some without
        ("a b c", "model.a model.b c", "2 missing (a, b), 2 unknown (model.a, model.b)"),
        ("a", "student.a teacher.a", "1 unknown (teacher.a)"),
        ("a", "0.a", "1 missing (a), 1 unknown (0.a)"),  # a place in a Sequential
        ("a", "a.a", ""),
        ("a.b", "a.x.b", "1 missing (a.b), 1 unknown (a.x.b)"),
        ("a", "module.a a", "1 unknown (module.a)"),
    ],
)
def test_names_that_could_be_others_are_told(
    tmp_path: Path, own: str, given: str, told: str
) -> None:
    if not told:
        assert read_named(tmp_path, own.split(), given.split())
        return
    sentence = refused(lambda: read_named(tmp_path, own.split(), given.split()))
    assert told in sentence


def test_wrapped_networks_of_torch_are_read(tmp_path: Path) -> None:
    file, saved = tmp_path / "net.pt", mlp(3, 5, 2, seed=7)
    saved[2] = torch.compile(saved[2])  # type: ignore[index,assignment]
    torch.save(nn.DataParallel(torch.compile(saved)).state_dict(), file)
    assert any("module._orig_mod.2._orig_mod." in name for name in torch.load(file))
    assert same(read_network(file, build), mlp(3, 5, 2, seed=7))


def test_a_whole_network_in_a_checkpoint_is_read(tmp_path: Path) -> None:
    torch.save({"model": build(), "epoch": 3}, tmp_path / "net.pt")
    assert same(read_network(tmp_path / "net.pt"), build())


def test_safetensors_fill_the_network(tmp_path: Path) -> None:
    saved = resnet(10, seed=7)
    safetensors.torch.save_file(saved.state_dict(), tmp_path / "net.safetensors")
    assert same(read_network(tmp_path / "net.safetensors", lambda: resnet(10, seed=0)), saved)
    assert "network must say how to build the network" in refused(
        lambda: read_network(tmp_path / "net.safetensors")
    )


@pytest.mark.parametrize("save", ["zip", "legacy", "protocol 2", "protocol 4", "checkpoint"])
@pytest.mark.parametrize("read", [read_network, read_paths])
def test_a_payload_is_refused_and_never_run(
    tmp_path: Path, save: str, read: Callable[[Path], object]
) -> None:
    file, marker = tmp_path / "net.pt", tmp_path / "marker"
    payload = Payload(marker)
    if save.startswith("protocol"):
        file.write_bytes(pickle.dumps(payload, protocol=int(save[-1])))
    elif save == "checkpoint":
        torch.save({"state_dict": build().state_dict(), "epoch": payload}, file)
    else:
        torch.save(payload, file, _use_new_zipfile_serialization=save == "zip")
    sentence = refused(lambda: read(file))
    if save != "protocol 4":
        assert "asks for posix.system, which was not run" in sentence
    assert not marker.exists()
    if not save.startswith("protocol"):  # as dangerous as it looks
        torch.load(file, weights_only=False)
        assert marker.exists()


def test_a_payload_under_the_name_of_another_format_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    for name in ("paths.npz", "paths.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Payload(marker)))
        assert "is damaged, cut short or of another kind" in refused(
            lambda name=name: read_paths(tmp_path / name)
        )
    np.savez(tmp_path / "objects.npz", x0=np.array([Payload(marker)], object), x1=np.zeros(1))
    sentence = refused(lambda: read_paths(tmp_path / "objects.npz"))
    assert "as numpy.savez, without Python objects, writes it" in sentence
    assert not marker.exists()


def test_a_network_of_another_class_is_named(tmp_path: Path) -> None:
    torch.save(Stranger(), tmp_path / "net.pt")
    sentence = refused(lambda: read_network(tmp_path / "net.pt"))
    assert f"{Stranger.__module__}.Stranger" in sentence
    assert "save net.state_dict() of the module itself and name the network" in sentence


def test_a_network_with_hooks_is_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    net[0].register_forward_hook(print)
    torch.save(net, tmp_path / "net.pt")
    assert "asks for print" in refused(lambda: read_network(tmp_path / "net.pt"))


def cut(file: Path) -> None:
    torch.save(build(), file)
    file.write_bytes(file.read_bytes()[:-200])


def flipped(file: Path) -> None:
    safetensors.torch.save_file(build().state_dict(), file.with_suffix(".safetensors"))
    file.write_bytes(file.with_suffix(".safetensors").read_bytes())


def script(file: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)


def program(file: Path) -> None:
    with file.open("wb") as opened:
        torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(3, 2),)), opened)


def hollow(file: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    net._modules["1"] = 3  # type: ignore[assignment]
    torch.save(net, file)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda file: None, "file must be a file that can be read, got .* (No such file"),
        (lambda file: file.mkdir(), "file must be a file that can be read, got .* (Is a directory"),
        (lambda file: file.touch(), "file must not be empty, got .* of 0 bytes"),
        (lambda file: file.write_text("weights: 1\n"), "damaged, cut short or of another kind"),
        (cut, "damaged, cut short or of another kind"),
        (flipped, "damaged, cut short or of another kind"),
        (script, "which is TorchScript, whose code is not run; save net.state_dict() of the modul"),
        (program, "which is a program of torch.export, whose code is not run; save net.state_dict"),
        (hollow, "damaged, cut short or of another kind"),
        (lambda file: torch.save(3, file), "which holds one object of the type int"),
        (lambda file: torch.save({}, file), "which holds nothing"),
        (
            lambda file: torch.save({c: 1 for c in "abcd\n"}, file),
            "which holds the names a, b, c and 2 more",
        ),
    ],
)
def test_files_that_hold_no_network_are_one_sentence(
    tmp_path: Path, write: Callable[[Path], object], told: str
) -> None:
    write(tmp_path / "net.pt")
    sentence = refused(lambda: read_network(tmp_path / "net.pt", build))
    assert all(part in sentence for part in told.split(".*"))
    assert str(tmp_path / "net.pt") in sentence


@pytest.mark.parametrize("content", [b"", b"\x00" * 20, b"\xff" * 8 + b"{}", b"hello"])
def test_damaged_safetensors_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.safetensors").write_bytes(content)
    refused(lambda: read_network(tmp_path / "net.safetensors", build))


def test_other_formats_are_refused_by_their_name() -> None:
    assert "must end in one of .pt, .pth, .ckpt, .safetensors, .onnx, got net.h5" in refused(
        lambda: read_network("net.h5")
    )
    assert "must end in one of .npz, .safetensors, .pt, .pth, got paths.csv" in refused(
        lambda: read_paths("paths.csv")
    )


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        raise ValueError("width must\nbe given")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (None, "network must say how to build the network"),
        (3, "got an object of the type int"),
        (build(), "got an object of the type Sequential; pass for example lambda: net"),
        (Broken, "but raised ValueError: width must be given; mend it"),
        (lambda: 3, "returned an object of the type int"),
        (lambda: mlp(3, 6, 2, seed=0), "3 of another shape (0.weight (5, 3) instead of (6, 3), "),
        (lambda: mlp(3, 5, 5, 2, seed=0), "2 missing (4.weight, 4.bias), 2 of another shape"),
        (lambda: nn.Linear(3, 5), "2 missing (weight, bias), 4 unknown (0.weight, 0.bias, 2.weig"),
    ],
)
def test_a_state_dict_without_its_network_is_one_sentence(
    tmp_path: Path, network: Any, told: str
) -> None:
    torch.save(build().state_dict(), tmp_path / "net.pt")
    assert told in refused(lambda: read_network(tmp_path / "net.pt", network))


def test_weights_that_are_no_real_numbers_are_refused(tmp_path: Path) -> None:
    state = {name: value.to(torch.int32) for name, value in build().state_dict().items()}
    torch.save(state, tmp_path / "net.pt")
    assert "which torch cannot use" in refused(lambda: read_network(tmp_path / "net.pt", build))


def test_a_whole_network_needs_no_other(tmp_path: Path) -> None:
    torch.save(build(), tmp_path / "net.pt")
    assert "network must be left out" in refused(lambda: read_network(tmp_path / "net.pt", build))


# ONNX

ONNX = pytest.mark.skipif(
    importlib.util.find_spec("onnx2torch") is None,
    reason="ONNX files need onnx2torch; pip install 'implreg[onnx]'",
)


def convolutional() -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    net(torch.randn(5, 1, 8, 8))  # running statistics
    return net


def exported(net: nn.Module, shape: tuple[int, ...], file: Path, **options: Any) -> nn.Module:
    """Write the network as ONNX and return it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (torch.randn(1, *shape),), file, dynamo=False, **options)
    return net


@ONNX
@pytest.mark.parametrize("opset", [13, 17, 20])
@pytest.mark.parametrize("axes", [None, {"x": {0: "batch"}}], ids=["one sample", "any number"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(build, (3,)), (convolutional, (1, 8, 8)), (lambda: resnet(10, seed=0), (1, 28, 28))],
    ids=["dense", "convolutional", "residual"],
)
def test_exported_networks_have_the_same_paths(
    tmp_path: Path, make: Callable[[], nn.Module], shape: tuple[int, ...], axes: Any, opset: int
) -> None:
    file = tmp_path / "net.onnx"
    options = {"input_names": ["x"], "dynamic_axes": axes, "opset_version": opset}
    net = exported(make().float(), shape, file, **options)
    read = read_network(file)
    generator = torch.Generator().manual_seed(1)
    x0, x1 = torch.randn(2, 3, *shape, generator=generator)
    torch.testing.assert_close(read(x0), net(x0))
    if len(shape) == 3 and shape[1] > 8:  # thousands of switches
        return
    ours, theirs = (implreg.trace(each, (x0, x1)) for each in (net, read))
    assert len(theirs.t) > 0
    torch.testing.assert_close(theirs.t, ours.t, rtol=0, atol=1e-4)  # batch norm is in the weights
    torch.testing.assert_close(theirs.ends, ours.ends, rtol=1e-4, atol=1e-4)


def written(file: Path, name: str, operation: str = "Relu", **reshape: int) -> None:
    """Write a network of two operations, the second called `name`, for one sample (1, 2, 3)."""
    from onnx import TensorProto, helper, numpy_helper, save

    sizes = numpy_helper.from_array(np.array([1, 6]), "sizes")
    nodes = [
        helper.make_node("Reshape", ["x", "sizes"], ["flat"], "first", **reshape),
        helper.make_node(operation, ["flat"], ["y"], name),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", TensorProto.FLOAT, [1, 2, 3])],
        [value("y", TensorProto.FLOAT, [1, 6])], [sizes],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("of.others", 1)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=9), file)


@ONNX
def test_onnx_that_states_one_sample_takes_several(tmp_path: Path) -> None:
    written(tmp_path / "net.onnx", "second", allowzero=1)
    x = torch.randn(5, 2, 3)
    assert torch.equal(read_network(tmp_path / "net.onnx")(x), x.flatten(1).relu())
    assert len(implreg.trace(read_network(tmp_path / "net.onnx"), (x[:2], x[2:4])).t)


@ONNX
def test_names_in_onnx_are_never_run(tmp_path: Path) -> None:
    import onnx2torch

    file, marker = tmp_path / "net.onnx", tmp_path / "marker"
    written(file, f"""a" if getattr(__import__('os'), 'mkdir')('{marker}') else "a""")
    x = torch.ones(2, 2, 3)
    assert read_network(file)(x).shape == (2, 6)
    assert not marker.exists()
    with pytest.raises(AttributeError):  # as dangerous as it looks
        onnx2torch.convert(file)(x[:1])
    assert marker.exists()


@ONNX
def test_other_onnx_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    for content in (b"hello", b"\x00" * 20, b"\x08"):
        file.write_bytes(content)
        assert "as ONNX writes it" in refused(lambda: read_network(file))
    written(file, "second", "Det")
    sentence = refused(lambda: read_network(file))
    assert "operations that onnx2torch knows" in sentence and "'Det'" in sentence
    written(file, "second", "Relu")
    assert "network must be left out" in refused(lambda: read_network(file, build))


def test_onnx_without_its_packages_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise RuntimeError('operator nms does not exist')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "onnx", raising=False)
    (tmp_path / "net.onnx").write_bytes(b"\x08\x08")
    sentence = refused(lambda: read_network(tmp_path / "net.onnx"))
    assert "onnx2torch, but importing that raised RuntimeError: operator nms" in sentence
    assert "pip install 'implreg[onnx]'" in sentence


# Paths


def save(file: Path, arrays: dict[str, Tensor]) -> None:
    if file.suffix == ".npz":
        np.savez(file, **{name: value.numpy() for name, value in arrays.items()})
    elif file.suffix == ".safetensors":
        safetensors.torch.save_file(arrays, file)
    else:
        torch.save(arrays, file)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.uint8])
def test_paths_are_read(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    x0, x1 = torch.arange(12).reshape(2, 1, 3, 2).to(dtype), torch.ones(2, 1, 3, 2, dtype=dtype)
    file = tmp_path / f"paths{suffix}"
    save(file, {"x0": x0, "x1": x1, "labels": torch.tensor([1, 2])})
    read = read_paths(file)
    assert isinstance(read, tuple)
    assert torch.equal(read[0], x0.double()) and torch.equal(read[1], x1.double())
    save(file, {"points": x0})
    points = read_paths(file)
    assert isinstance(points, Tensor)
    assert torch.equal(points, x0.double()) and points.dtype == torch.float64


def test_arrays_of_any_layout_are_read(tmp_path: Path) -> None:
    x = np.arange(6).reshape(2, 3)
    np.savez(tmp_path / "a.npz", x0=x.astype(">f4"), x1=np.asfortranarray(x, np.float16))
    read = read_paths(tmp_path / "a.npz")
    assert all(torch.equal(part, torch.from_numpy(x).double()) for part in read)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x0": (2, 3)}, "file must hold either x0 and x1 .* which holds the names x0;"),
        ({"x0": (2, 3), "x1": (2, 3), "points": (2, 3)}, "must hold either"),
        ({"a": (2, 3)}, "which holds the names a;"),
        ({"x0": (2, 3), "x1": (3, 3)}, "got x0 (2, 3) and x1 (3, 3) in"),
        ({"x0": (3,), "x1": (3,)}, "x0 and x1 must have one shape (P, ...)"),
        ({"x0": (0, 3), "x1": (0, 3)}, "at least 1, got x0 (0, 3)"),
        ({"points": (3,)}, "points must have the shape (V, ...)"),
        ({"points": (1, 3)}, "at least 2, got points (1, 3)"),
    ],
)
def test_other_names_and_shapes_are_one_sentence(
    tmp_path: Path, suffix: str, arrays: dict[str, tuple[int, ...]], told: str
) -> None:
    file = tmp_path / f"paths{suffix}"
    save(file, {name: torch.ones(shape) for name, shape in arrays.items()})
    sentence = refused(lambda: read_paths(file))
    assert all(part in sentence for part in told.split(".*"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (torch.ones(2, 3, dtype=torch.complex64), "got Tensor of torch.complex64"),
        (torch.ones(2, 3).to_sparse(), "points must be a dense tensor or"),
        ([[1, 2], [3, 4]], "got list"),
    ],
)
def test_other_tensors_are_one_sentence(tmp_path: Path, value: object, told: str) -> None:
    torch.save({"points": value}, tmp_path / "paths.pt")
    assert told in refused(lambda: read_paths(tmp_path / "paths.pt"))


def test_other_arrays_are_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "paths.npz", points=np.array([["a"], ["b"]]))
    assert (
        "points must be a dense tensor or a NumPy array of real numbers, got ndarray of"
        in refused(lambda: read_paths(tmp_path / "paths.npz"))
    )
    torch.save([1, 2], tmp_path / "paths.pt")
    assert "one object of the type list" in refused(lambda: read_paths(tmp_path / "paths.pt"))


def test_damaged_paths_are_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "paths.npz"
    assert "No such file" in refused(lambda: read_paths(file))
    file.touch()
    assert "must not be empty" in refused(lambda: read_paths(file))
    np.savez_compressed(file, points=np.random.default_rng(0).normal(size=(50, 50)))
    whole = file.read_bytes()
    single = tmp_path / "single.npy"
    np.save(single, np.ones((2, 2)))
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    for content in (whole[:-300], b"x0 = 1\n", bytes(broken), single.read_bytes()):
        file.write_bytes(content)
        assert "is damaged, cut short or of another kind" in refused(lambda: read_paths(file))


# Names of callables


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "models_of_a_user").mkdir()
    (tmp_path / "models_of_a_user" / "__init__.py").write_text("")
    (tmp_path / "models_of_a_user" / "small.py").write_text(
        "import implreg\nsize = 3\ndef build(): return implreg.mlp(3, 5, 2, seed=0)\n"
        "net = build()\nclass Makers: build = staticmethod(build)\n"
    )
    (tmp_path / "models_of_a_user" / "broken.py").write_text("import no_such_library\n")
    (tmp_path / "models_of_a_user" / "wrong.py").write_text("def build(:\n")
    return tmp_path


@pytest.mark.parametrize("attribute", ["build", "Makers.build"])
def test_callables_are_imported(folder: Path, attribute: str) -> None:
    assert same(import_network(f"models_of_a_user.small:{attribute}")(), build())


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("models_of_a_user.small", "must have the form package.module:callable, got 'models"),
        ("models_of_a_user/small.py:build", "must have the form package.module:callable"),
        (":build", "must have the form"),
        ("small:", "must have the form"),
        ("no_such_package.small:build", "but there is no module no_such_package; start from"),
        ("models_of_a_user.large:build", "but there is no module models_of_a_user.large; start"),
        ("models_of_a_user.broken:build", "raised ModuleNotFoundError: No module named 'no_such"),
        ("models_of_a_user.wrong:build", "raised SyntaxError: "),
        ("models_of_a_user.small:bulid", "models_of_a_user.small has no bulid; check the name"),
        ("models_of_a_user.small:size", "of the type int; write a function"),
        ("models_of_a_user.small:net", "of the type Sequential; write a"),
    ],
)
def test_bad_names_are_one_sentence(folder: Path, name: str, told: str) -> None:
    assert told in refused(lambda: import_network(name))
