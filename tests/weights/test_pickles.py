"""Pickled weights are refused by that name wherever they are given, and never opened."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fathom.cli.find import model_folder
from fathom.errors import WeightsError
from fathom.weights.convert import convert
from fathom.weights.folder import load, save
from fathom.weights.pickles import is_pickle
from small import small_model


class Trap:
    """Leaves a file behind if anybody unpickles it."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.sprung,)


def plain(protocol: int) -> Callable[[object], bytes]:
    return lambda value: pickle.dumps(value, protocol=protocol)


def legacy(value: object) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.ones(2), "more": value}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def zipped(value: object) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value))
    return file.getvalue()


KINDS = {f"protocol {number}": plain(number) for number in range(6)} | {"legacy torch": legacy, "zip": zipped}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def contents(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    return request.param(Trap(tmp_path / "sprung"))


def test_a_pickle_by_the_name_of_safetensors_is_refused_as_a_pickle(contents: bytes, tmp_path: Path) -> None:
    folder = save(small_model(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(contents)
    with pytest.raises(WeightsError, match=r"model\.safetensors: is a pickle.*save_pretrained"):
        load(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["weights.gguf", "pytorch_model.bin", "consolidated.00.pth", "weights"])
def test_a_pickle_in_the_place_of_a_model_is_refused_as_a_pickle(contents: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(contents)
    with pytest.raises(WeightsError, match=f"{name}: is a pickle"):
        convert(path, tmp_path / "target")
    if not name.endswith(".gguf"):
        with pytest.raises(WeightsError, match=f"{name}: is a pickle"):
            load(str(path))
    assert not (tmp_path / "sprung").exists()


def test_the_command_line_finds_no_model_in_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: is a pickle"):
        model_folder(str(path))


def test_safetensors_are_no_pickles(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for length in (0x280, 0x380, 0x480, 0x580):
        file.write_bytes(length.to_bytes(8, "little") + b'{"a": ' + b" " * 900)
        assert not is_pickle(file), length
