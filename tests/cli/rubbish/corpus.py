"""The whole corpus: what can be wrong, by subject."""

from tests.cli.rubbish import bad_labels, bad_options, bad_pictures, bad_places, bad_runs, bad_sites

SUBJECTS = {
    "Pictures": bad_pictures.CASES,
    "Labels and folders": bad_labels.CASES,
    "Sources and stores": bad_places.CASES,
    "Runs": bad_runs.CASES,
    "Options and settings": bad_options.CASES,
    "Machines and sites": bad_sites.CASES,
}
CASES = [case for cases in SUBJECTS.values() for case in cases]
