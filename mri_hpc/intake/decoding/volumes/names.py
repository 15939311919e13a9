"""Names of the files that hold volumes, or the headers of such."""

ENDS = (".nii.gz", ".nii", ".mgz", ".mgh", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")


def is_volume_name(path: str) -> bool:
    """Tell whether a file's name promises a volume."""
    return path.lower().endswith(ENDS)


def stem_of(path: str) -> str:
    """Return the name of a volume's file without its ending; empty of what is named otherwise."""
    name = path.rpartition("/")[2]
    return next((name[: -len(end)] for end in ENDS if name.lower().endswith(end)), "")
