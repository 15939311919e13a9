"""Sources and stores that are not there, are something else, are damaged, or cannot be written."""

import shutil

import h5py

from tests.cli.rubbish.case import Case, OnFullDisk, holds
from tests.cli.rubbish.desk import GOOD, Desk, draw


def words(*parts: object) -> list[str]:
    """A command line."""
    return [str(part) for part in parts]


def damaged_chunk(desk: Desk) -> list[str]:
    """One byte of the pixels differs."""
    (chunk,) = (desk.store / "chunks").iterdir()
    with h5py.File(chunk) as file:
        pixels = file["images"].id.get_chunk_info(3).byte_offset
    data = bytearray(chunk.read_bytes())
    data[pixels] ^= 255
    chunk.write_bytes(data)
    return words("store", "verify", desk.store)


def cut_chunk(desk: Desk) -> list[str]:
    """A chunk is cut short."""
    (chunk,) = (desk.store / "chunks").iterdir()
    chunk.write_bytes(chunk.read_bytes()[:-5000])
    return words("store", "verify", desk.store)


def lost_chunk(desk: Desk) -> list[str]:
    """A chunk is missing."""
    shutil.rmtree(desk.store / "chunks")
    (desk.store / "chunks").mkdir()
    return words("store", "verify", desk.store)


def cut_commit(desk: Desk) -> list[str]:
    """A commit is cut short, and nothing was folded of it."""
    shutil.rmtree(desk.store / "snapshots")
    (desk.store / "snapshots").mkdir()
    (commit,) = (desk.store / "commits").iterdir()
    commit.write_bytes(commit.read_bytes()[:-40])
    return words("store", "info", desk.store)


def edited_recipe(desk: Desk) -> list[str]:
    """Somebody has changed the recipe by hand."""
    recipe = desk.store / "recipe.json"
    recipe.write_text(recipe.read_text().replace("letterbox", "stretch"))
    return words("store", "info", desk.store)


def lost_recipe(desk: Desk) -> list[str]:
    """The recipe is gone."""
    (desk.store / "recipe.json").unlink()
    return desk.preprocess()


def empty_store(desk: Desk) -> list[str]:
    """A store in which nothing was ever stored."""
    desk.file("flat/readme.txt", "hello")
    from tests.cli.rubbish.desk import call

    call(words("preprocess", "--source", desk.root / "flat", "--store", desk.root / "new"), desk.root, {})
    return words("launch", "--store", desk.root / "new")


def read_only(desk: Desk) -> list[str]:
    """A store into which nothing may be written, and a picture that is new."""
    draw(desk.raw / "glioma" / "P99" / "new.png", 99, 0)
    argv = desk.preprocess()
    for path in (desk.store, *desk.store.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return argv


def deleted(desk: Desk) -> list[str]:
    """A picture that is stored was deleted from the source."""
    argv = desk.preprocess()
    sorted(desk.raw.rglob("*.png"))[0].unlink()
    return argv


def moved(desk: Desk) -> list[str]:
    """A picture that is stored was moved to the folder of another class."""
    argv = desk.preprocess()
    picture = sorted(desk.raw.glob("glioma/*/*.png"))[0]
    target = desk.raw / "pituitary" / picture.parent.name / "moved.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    picture.rename(target)
    return argv


def _source(argv: list[str]) -> list[str]:
    return [argv[argv.index("--source") + 1]]


def full_disk(desk: Desk) -> list[str]:
    """New pictures, of which the chunk does not fit."""
    for number in range(90):
        draw(desk.raw / "glioma" / "P99" / f"{number}.png", 100 + number, 0)
    return desk.preprocess()


def other_site(desk: Desk) -> list[str]:
    """A store with pseudonyms, and the key of another site."""
    from tests.cli.rubbish.desk import call

    new = words("preprocess", "--source", desk.raw, "--store", desk.root / "new", "--size", 16)
    assert call(new, desk.root, {}).status == 0
    desk.environment["MRI_KEY_FILE"] = str(desk.file("other.key", "ab" * 32 + "\n"))
    (desk.root / "other.key").chmod(0o600)
    return new


def open_key(desk: Desk) -> list[str]:
    """Everybody may read the site's key."""
    desk.file("site.key", "ab" * 32 + "\n").chmod(0o644)
    return words("preprocess", "--source", desk.raw, "--store", desk.root / "new")


def bad_key(desk: Desk) -> list[str]:
    """The site's key is none."""
    desk.file("site.key", "secret\n").chmod(0o600)
    return words("preprocess", "--source", desk.raw, "--store", desk.root / "new")


CASES = (
    Case(
        name="a source that does not exist",
        make=lambda desk: words("preprocess", "--source", "scnas", "--store", desk.root / "new"),
        says=("scnas does not exist: --source (or MRI_SOURCE) takes the folder that holds the images",),
    ),
    Case(
        name="a source that is a file",
        make=lambda desk: words("preprocess", "--source", desk.file("scan.png"), "--store", "new"),
        says=("scan.png is not a folder: --source",),
    ),
    Case(
        name="a source without files",
        make=lambda desk: words(
            "preprocess", "--source", desk.file("raw/.hidden").parent, "--store", desk.root / "new"
        ),
        says=("raw holds no files: --source (or MRI_SOURCE) takes the folder with the images",),
    ),
    Case(
        name="a source that is the store",
        make=lambda desk: words("preprocess", "--source", desk.raw, "--store", desk.raw),
        says=("lies within --source", "keep them apart"),
    ),
    Case(
        name="a store within its source",
        make=lambda desk: words("preprocess", "--source", desk.raw, "--store", desk.raw / "store"),
        says=("lies within --source", "keep them apart"),
    ),
    Case(
        name="a source within its store",
        make=lambda desk: words("preprocess", "--source", desk.store / "chunks", "--store", desk.store),
        says=("lies within --store", "keep them apart"),
    ),
    Case(
        name="a file in place of the store",
        make=lambda desk: words("preprocess", "--source", desk.raw, "--store", desk.file("store.h5")),
        says=("store.h5",),
    ),
    Case(
        name="a folder of something else in place of the store",
        make=lambda desk: words(
            "preprocess", "--source", desk.raw, "--store", desk.file("thesis/text.tex", "words").parent
        ),
        says=("thesis holds other things", "choose a new folder for --store"),
        after=lambda desk, outcome: _is_alone(desk, "thesis", "text.tex"),
    ),
    Case(
        name="a store that was made with another --size",
        make=lambda desk: desk.preprocess("--size", 64),
        says=("was made with another recipe: size 32 there, 64 here; use another --store",),
        after=holds(GOOD),
    ),
    Case(
        name="a store that was made with the key of another site",
        make=other_site,
        says=("new was made with another site key", "set MRI_KEY_FILE to that key"),
    ),
    Case(
        name="a site's key that everybody may read",
        make=open_key,
        says=("site.key holds the site's key but others may read it: chmod 600",),
    ),
    Case(
        name="a site's key that is none",
        make=bad_key,
        says=("site.key is not a site key (at least 64 hex digits): restore it from a backup",),
    ),
    Case(
        name="a store that lost its recipe",
        make=lost_recipe,
        says=("recipe.json is missing, but not the images: restore it from a backup, or from a run",),
    ),
    Case(
        name="a recipe that was changed by hand",
        make=edited_recipe,
        says=("recipe.json is not a recipe (its checksum does not fit); restore it from a backup or a run",),
    ),
    Case(
        name="a store that does not exist",
        make=lambda desk: words("store", "info", "stroe"),
        says=("stroe is not a store (found nothing, no recipe.json); make one with:",),
    ),
    Case(
        name="a store that is something else",
        make=lambda desk: words("store", "verify", desk.raw),
        says=("raw is not a store (found something else, no recipe.json); make one with:",),
    ),
    Case(
        name="an empty store: launch",
        make=empty_store,
        says=("new holds no image (1 sources were rejected): add some with mri-hpc preprocess",),
    ),
    Case(
        name="a chunk with a changed byte",
        make=damaged_chunk,
        says=("is damaged, 1 found; the first:", ".h5"),
    ),
    Case(
        name="a chunk cut short",
        make=cut_chunk,
        says=("is damaged, 1 found; the first:", ".h5"),
    ),
    Case(
        name="a chunk that is missing",
        make=lost_chunk,
        says=("is damaged, 1 found; the first:", ".h5"),
    ),
    Case(
        name="a commit cut short",
        make=cut_commit,
        says=(".json is damaged", "restore it from a backup"),
    ),
    Case(
        name="a store that may not be written",
        make=read_only,
        says=("Permission denied: ", "see who may read and write there (ls -l), then run it again"),
        needs_permission=True,
        after=holds(GOOD),
    ),
    Case(
        name="a file that may grow no further",
        make=full_disk,
        most_bytes=30,
        says=("File too large: ", "raise the limit on the size of files (ulimit -f), then run it again"),
        after=holds(GOOD),
    ),
    Case(
        name="a share that is none",
        make=lambda desk: desk.preprocess("--task", 4, "--tasks", 4),
        says=("--task must be between 0 and --tasks - 1, got --task 4 --tasks 4",),
    ),
    Case(
        name="a share without its number",
        make=lambda desk: desk.preprocess("--task", 1),
        says=("--task and --tasks go together: give both or neither",),
    ),
    Case(
        name="an impossible --size",
        make=lambda desk: desk.preprocess("--size", 3),
        says=("--size must be between 8 and 4096, got 3",),
    ),
    Case(
        name="files that were deleted from the source",
        make=deleted,
        status=0,
        says=("1 stored image is no longer in", "take it out: mri-hpc store retract", "--missing"),
        after=holds(GOOD),
    ),
    Case(
        name="labels that were changed by moving files",
        make=moved,
        status=0,
        says=("1 stored image is no longer in", "1 of them moved, 1 to another class; take it out"),
        after=holds(GOOD + 1),
    ),
    Case(
        name="an image to retract that is not stored",
        make=lambda desk: words("store", "retract", desk.store, "--image", "none.png", "--yes"),
        says=("has no image 'none.png': name it by key, or by the path of its file below the source",),
        after=holds(GOOD),
    ),
    Case(
        name="missing images of a source that is not mounted",
        make=lambda desk: words("store", "retract", desk.store, "--missing", desk.root / "none", "--yes"),
        says=("none is not a folder: --missing takes the folder of images, as it is now",),
        after=holds(GOOD),
    ),
    Case(
        name="images to retract without a word that it is meant",
        make=lambda desk: [*words("store", "retract", desk.store, "--missing"), *_source(deleted(desk))],
        says=("1 image to be removed from the disk for good", "add --yes"),
        after=holds(GOOD),
    ),
    OnFullDisk(
        name="a disk that is full",
        make=lambda desk: [*full_disk(desk)[:-1], "disk/store", "--ids", "as-given"],
        says=("No space left on device: ", "make room there, then run it again"),
        needs_mount=True,
    ),
)


def _is_alone(desk: Desk, folder: str, name: str) -> None:
    assert [path.name for path in (desk.root / folder).iterdir()] == [name]
