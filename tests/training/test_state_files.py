"""Files of weights are those that the library would write, and known by their bytes."""

import hashlib

import pytest
import safetensors.torch
import torch

from mri_hpc.training.state_files import CODES, PIECE_BYTES, write_state, write_weights

WEIGHTS = {
    **{f"of {dtype}": torch.ones(3, 5).to(dtype) for dtype in CODES},
    "layer.weight": torch.arange(24.0).reshape(2, 3, 4).transpose(0, 2).contiguous(),
    "a": torch.tensor(7), "empty": torch.empty(0, 3), "größe": torch.zeros(1),
    "large": torch.arange(PIECE_BYTES // 4 + 9, dtype=torch.int32),
}  # fmt: skip


@pytest.mark.parametrize("metadata", [None, {}, {"format": 'pt "1"'}])
def test_a_file_of_weights_is_to_the_byte_what_the_library_writes(metadata, tmp_path):
    digest = write_weights(tmp_path / "file", WEIGHTS, metadata)
    document = (tmp_path / "file").read_bytes()
    assert document == safetensors.torch.save(WEIGHTS, metadata)
    assert digest == hashlib.sha256(document).hexdigest()


def test_weights_whose_channels_lie_last_are_written_in_the_order_of_their_numbers(tmp_path):
    weights = torch.arange(120.0).reshape(2, 3, 4, 5)
    write_weights(tmp_path / "file", {"w": weights.to(memory_format=torch.channels_last)})
    assert (tmp_path / "file").read_bytes() == safetensors.torch.save({"w": weights})


def test_a_state_is_known_by_the_bytes_of_its_file_and_read_by_torch(tmp_path):
    digest = write_state(tmp_path / "file", {"state": WEIGHTS["large"]})
    assert digest == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    assert torch.equal(torch.load(tmp_path / "file", weights_only=True)["state"], WEIGHTS["large"])


def test_a_file_that_is_written_anew_leaves_the_one_before_to_whoever_reads_it(tmp_path):
    write_weights(tmp_path / "file", WEIGHTS)
    with (tmp_path / "file").open("rb") as before:
        write_weights(tmp_path / "file", {"a": torch.tensor(8)})
        assert before.read() == safetensors.torch.save(WEIGHTS)
    assert safetensors.torch.load_file(tmp_path / "file")["a"] == 8


def test_a_write_goes_no_further_than_it_is_let(tmp_path):
    asked = []

    def once():
        asked.append(True)
        if len(asked) > 2:
            raise OSError("no further")

    for write in (write_weights, write_state):
        asked.clear()
        write(tmp_path / "file", {"large": WEIGHTS["large"]})
        whole = (tmp_path / "file").stat().st_size
        with pytest.raises(OSError, match="no further"):
            write(tmp_path / "file", {"large": WEIGHTS["large"]}, before_piece=once)
        assert (tmp_path / "file").stat().st_size < whole
