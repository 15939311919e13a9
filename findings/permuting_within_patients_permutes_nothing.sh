#!/usr/bin/env bash
# The guess: scikit-learn's permutation_test_score takes groups=patients as cross_val_score does, to keep a patient's slices
#   in one fold, and its p-value says whether the classifier beats chance.
# What happens: labels are permuted only among the slices of one patient. All of them have the same label, so every
#   permutation is the labelling that was given: each permuted score equals the true one, and p is 1 for a perfect
#   classifier. Nothing warns. To give the folds alone, without groups, is no way out: labels are then permuted slice by
#   slice, as if each slice were a patient, and of 10 studies of pure noise several come out with p <= 0.05.
# Versions: scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Why it matters: it is the usual test of "better than chance" for slices grouped by patient, and both calls give a p-value
#   that can be printed. The first hides a classifier that works, the second lets one pass that does not. Permute the labels
#   of patients, and hand each slice its patient's.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    scikit-learn==1.9.1 scipy==1.17.1 numpy==2.4.6

cat >"$folder/test.py" <<'PYTHON'
import warnings

import numpy as np
from sklearn.model_selection import GroupKFold, cross_val_score, permutation_test_score
from sklearn.neighbors import NearestCentroid

warnings.simplefilter("error")
PATIENTS, SLICES, PERMUTATIONS, STUDIES = 40, 10, 19, 10
patients = np.repeat(np.arange(PATIENTS), SLICES)
label_of_patient = np.arange(PATIENTS) // 2 % 2  # so that both folds have both classes
labels = label_of_patient[patients]
model, by_patient = NearestCentroid(), GroupKFold(2)
random = np.random.default_rng(0)


def p_by_patients(pixels: np.ndarray) -> tuple[float, float]:
    def score(of_patient: np.ndarray) -> float:
        return cross_val_score(model, pixels, of_patient[patients], groups=patients, cv=by_patient).mean()

    found = score(label_of_patient)
    at_least = sum(score(random.permutation(label_of_patient)) >= found for _ in range(PERMUTATIONS))
    return found, (1 + at_least) / (1 + PERMUTATIONS)


# The classes are 20 standard deviations apart.
pixels = 20 * labels[:, None] + random.normal(size=(len(labels), 3))
score, permuted, p = permutation_test_score(
    model, pixels, labels, groups=patients, cv=by_patient, n_permutations=PERMUTATIONS, random_state=0
)
print(f"perfect, groups=patients: accuracy {score:.2f}, permuted {permuted.min():.2f} to {permuted.max():.2f}, p {p:.3f}")
print("perfect, patients permuted: accuracy {:.2f}, p {:.3f}".format(*p_by_patients(pixels)))

# No class differs from the other; slices of one patient are alike.
few, few_by_patient = 0, 0
for _study in range(STUDIES):
    pixels = random.normal(size=(PATIENTS, 3))[patients] + 0.1 * random.normal(size=(len(labels), 3))
    folds = list(by_patient.split(pixels, labels, patients))
    p = permutation_test_score(model, pixels, labels, cv=folds, n_permutations=PERMUTATIONS, random_state=0)[2]
    few += p <= 0.05
    few_by_patient += p_by_patients(pixels)[1] <= 0.05
print(f"noise, p <= 0.05 of {STUDIES} studies: folds without groups {few}, patients permuted {few_by_patient}")
print("many" if few >= 3 else "few", "many" if few_by_patient >= 3 else "few")
PYTHON

found=$("$folder/venv/bin/python" "$folder/test.py")
echo "$found"
expected='perfect, groups=patients: accuracy 1.00, permuted 1.00 to 1.00, p 1.000
perfect, patients permuted: accuracy 1.00, p 0.050
many few'
if [ "$(grep -v '^noise' <<<"$found")" = "$expected" ]; then
    echo "as described above"
else
    echo "this has changed: the head of this file is out of date" >&2
    exit 1
fi
