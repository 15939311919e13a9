import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.chunks.layout import StoreDir


def test_a_private_folder_open_to_others_is_refused_also_by_whoever_finds_it_made_by_another_task(tmp_path):
    store = StoreDir(tmp_path / "store")
    store.private.mkdir(parents=True)
    store.private.chmod(0o755)
    for is_empty in (False, True):
        (store.private / "names").rmdir() if is_empty else (store.private / "names").mkdir()
        with pytest.raises(UserError, match=r"keeps no permissions \(mode 755 in place of 700\)"):
            store.make()
        assert store.private.exists() != is_empty
    store.make()
    store.recipe.touch()
    store.private.chmod(0o755)
    store.make()
