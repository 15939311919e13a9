from dataclasses import replace

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.intake.decoding.probe import probe
from mri_hpc.intake.decoding.recipe import Recipe, load_recipe, publish_recipe


def test_a_recipe_comes_back_as_it_was_written(tmp_path):
    recipe = probe(Recipe(size=96, fit="stretch", ids="as-given"))
    (tmp_path / "recipe.json").write_bytes(recipe.to_json())
    assert load_recipe(tmp_path / "recipe.json") == recipe


def test_the_first_task_settles_the_recipe_and_others_must_agree(tmp_path):
    file = tmp_path / "recipe.json"
    assert publish_recipe(file, probe(Recipe(size=96))).size == 96
    before = file.read_bytes()
    publish_recipe(file, probe(Recipe(size=96)))
    with pytest.raises(UserError, match="size 96 there, 224 here; ids pseudonym there, as-given here"):
        publish_recipe(file, probe(Recipe(ids="as-given")))
    assert file.read_bytes() == before


def test_only_differing_pixels_of_the_probe_refuse(tmp_path):
    file = tmp_path / "recipe.json"
    here = probe(Recipe())
    assert len(here.probe) >= 5
    publish_recipe(file, here)
    publish_recipe(file, replace(here, probe=here.probe[1:]))
    name, crc = here.probe[0]
    with pytest.raises(UserError, match=f"decodes {name} to other pixels"):
        publish_recipe(file, replace(here, probe=((name, crc ^ 1), *here.probe[1:])))


def test_the_digest_follows_what_decides_about_pixels_alone():
    assert Recipe().digest() == probe(Recipe()).digest()
    assert len({Recipe().digest(), Recipe(size=96).digest(), Recipe(fit="stretch").digest()}) == 3


def test_a_recipe_of_another_version_is_refused(tmp_path):
    values = unseal(Recipe().to_json())
    for change in ({"decoder": "other-2"}, {"format": values["format"] - 1}):
        (tmp_path / "recipe.json").write_bytes(seal({**values, **change}))
        with pytest.raises(UserError, match="use the version that made it"):
            load_recipe(tmp_path / "recipe.json")
    (tmp_path / "recipe.json").write_bytes(seal({**values, "format": values["format"] + 2}))
    with pytest.raises(
        UserError, match=r"recipe\.json has format 4, this version reads up to 3: use a newer"
    ):
        load_recipe(tmp_path / "recipe.json")


def test_what_is_no_recipe_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_recipe(tmp_path / "recipe.json")
    values = unseal(Recipe().to_json())
    none = [seal({**values, **change}) for change in ({"size": "224"}, {"probe": {"a": None}}, {"fit": "x"})]
    for data in (b"", b"[]", b"{}", b"\xff", seal({"format": 1}), *none):
        (tmp_path / "recipe.json").write_bytes(data)
        with pytest.raises(UserError, match="is not a recipe"):
            load_recipe(tmp_path / "recipe.json")


def test_a_recipe_that_has_gained_a_field_is_read_as_before(tmp_path):
    recipe = probe(Recipe(size=96))
    (tmp_path / "recipe.json").write_bytes(seal({**unseal(recipe.to_json()), "colour": 1}))
    assert load_recipe(tmp_path / "recipe.json") == recipe


def test_a_size_that_cannot_be_is_refused():
    with pytest.raises(UserError, match="--size must be between 8 and 4096, got 4"):
        Recipe(size=4)


def test_a_changed_value_is_found_even_where_it_could_be_one(tmp_path):
    data = Recipe().to_json()
    for before, after in ((b"224", b"220"), (b"letterbox", b"stretch"), (b'"pseudonym"', b'"as-given"')):
        assert before in data
        (tmp_path / "recipe.json").write_bytes(data.replace(before, after))
        with pytest.raises(UserError, match="restore it from a backup or a run"):
            load_recipe(tmp_path / "recipe.json")


def test_a_store_keeps_to_the_site_key_that_it_was_made_with(tmp_path):
    publish_recipe(tmp_path / "recipe.json", Recipe(site="KEY1"))
    with pytest.raises(UserError, match="set MRI_KEY_FILE to that key"):
        publish_recipe(tmp_path / "recipe.json", Recipe(site="KEY2"))


def test_a_recipe_of_16_bits_has_a_format_that_earlier_versions_refuse(tmp_path):
    plain, deep = unseal(Recipe().to_json()), unseal(Recipe(bits=16).to_json())
    assert (plain["format"], deep["format"], deep["bits"]) == (2, 3, 16) and "bits" not in plain
    assert Recipe().digest() == Recipe(bits=8).digest() != Recipe(bits=16).digest()
    (tmp_path / "recipe.json").write_bytes(Recipe(bits=16).to_json())
    assert load_recipe(tmp_path / "recipe.json") == Recipe(bits=16)
