"""Gated attention: it begins as the mean, learns which slices tell, pooled alike in torch and numpy."""

import numpy as np
import pytest
import torch

from mri_hpc.results.statistics.patient_model import AttentionOverImages
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import attention as attention_module
from mri_hpc.training.attention import _of_patients, bags_of, begin, chosen_slices, learn
from mri_hpc.training.model import build


def patients(num, *, seed, slices=9):
    """Patients of two classes, of whose slices one tells and says so, and the rest say class 0."""
    drawn = np.random.default_rng(seed)
    label = np.arange(num) % 2
    features = drawn.normal(0, 1, (num, slices, 8)).astype(np.float32)
    features[:, 0, 0] = 4
    features[:, 0, 1] = np.where(label, 3, -3)
    logits = np.stack([features[..., 2] + 1, features[..., 1]], -1)
    flat = features.reshape(-1, 8), logits.reshape(-1, 2)
    return *flat, np.repeat(np.arange(num), slices), np.repeat(label, slices)


def learnt(bags, seed=0):
    found = begin(bags, seed)
    for _step in learn(found, bags, balanced=True):
        pass
    return found


def loss_of(model, bags):
    with torch.no_grad():
        return float(torch.nn.functional.cross_entropy(_of_patients(model, bags, slice(None)), bags.labels))


def test_before_its_first_step_it_is_the_mean_of_the_logits_of_the_network():
    features, logits, patient, label = patients(6, seed=0)
    bags = bags_of(features, logits, patient, label)
    with torch.no_grad():
        found = _of_patients(begin(bags, 0), bags, slice(None))
    torch.testing.assert_close(found, torch.from_numpy(logits.reshape(6, 9, 2).mean(1)))


def test_it_learns_which_slice_tells_and_that_holds_for_other_patients():
    bags, others = (bags_of(*patients(60, seed=seed)) for seed in (1, 2))
    before, after = begin(bags, 0), learnt(bags)
    assert loss_of(after, others) < 0.95 * loss_of(before, others)
    with torch.no_grad():
        weights = after(others.features, others.logits)[:, 0].exp().reshape(60, 9)
    assert weights[:, 0].mean() > 1.1 * weights[:, 1:].mean()


def test_numpy_pools_as_torch_does_whatever_the_order_and_the_number_of_slices():
    features, logits, patient, label = patients(5, seed=3)
    odd = np.random.default_rng(0).permutation(len(patient))[:31]
    bags = bags_of(features[odd], logits[odd], patient[odd], label[odd])
    model = learnt(bags)
    with torch.no_grad():
        wanted = _of_patients(model, bags, slice(None)).softmax(1).numpy()
        said = model(bags.features, bags.logits).double().numpy()
    names = [f"P{number}" for number in patient[odd]]
    pooled = AttentionOverImages().pool(names, np.full((31, 2), 0.5), said)
    np.testing.assert_allclose(pooled.probabilities, wanted, atol=1e-6)
    assert pooled.num_images.tolist() == np.unique(patient[odd], return_counts=True)[1].tolist()
    far = said + np.array([1e4, 0, 0])
    np.testing.assert_allclose(
        AttentionOverImages().pool(names, np.full((31, 2), 0.5), far).probabilities, wanted, atol=1e-6
    )


def test_slices_that_stand_for_nothing_do_not_count():
    features, logits, patient, label = patients(4, seed=4)
    alone, among = patient == 2, (patient != 2) | (np.arange(36) % 9 < 3)
    alone &= among
    model = begin(bags_of(features, logits, patient, label), 0)
    torch.nn.init.normal_(model.score.weight)
    with torch.no_grad():
        one, many = (
            _of_patients(model, bags_of(features[of], logits[of], patient[of], label[of]), slice(None))
            for of in (alone, among)
        )
    torch.testing.assert_close(one[0], many[2])


def test_what_fits_into_memory_at_once_decides_nothing(monkeypatch):
    bags = bags_of(*patients(12, seed=5))
    whole = learnt(bags)
    monkeypatch.setattr(attention_module, "SLICES_AT_ONCE", 20)
    for name, value in learnt(bags).state_dict().items():
        torch.testing.assert_close(value, whole.state_dict()[name], atol=1e-5, rtol=1e-3)


def test_a_feature_that_hardly_moved_in_training_outweighs_no_other_in_new_patients():
    features, logits, patient, label = patients(12, seed=8)
    features[:, 3] = 0.5 + 1e-6 * features[:, 4]
    model = learnt(bags_of(features, logits, patient, label))
    new = torch.from_numpy(features[:1].copy())
    new[0, 3] = 1.5
    with torch.no_grad():
        moved = model(new, torch.zeros(1, 2)) - model(torch.from_numpy(features[:1]), torch.zeros(1, 2))
    assert moved.abs().max() < 0.5


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    bags = bags_of(*patients(6, seed=6))
    one, again, other = (learnt(bags, seed).content.weight for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_patients_of_a_rare_class_count_as_much_as_all_others():
    features, logits, patient, label = patients(20, seed=7)
    label = np.repeat((np.arange(20) == 0).astype(int), 9)
    bags = bags_of(features * 0, logits * 0, patient, label)
    changes = []
    for balanced in (True, False):
        model = begin(bags, 0)
        for _step in learn(model, bags, balanced=balanced):
            pass
        changes.append(float(model.change.bias.detach().diff()))
    assert abs(changes[0]) < 1e-3 < -changes[1]


def test_it_learns_from_no_more_patients_and_slices_than_stated(monkeypatch):
    monkeypatch.setattr(attention_module, "MOST_PATIENTS", 2)
    monkeypatch.setattr(attention_module, "MOST_SLICES", 3)
    # By key: the patients that come first are 7 and 4, and -1 is none.
    patient = np.array([-1, 7, 4, 4, 1, 4, 7, 1, 4, -1, 7, 7])
    assert chosen_slices(patient).tolist() == [1, 2, 3, 5, 6, 10]
    assert not len(chosen_slices(np.array([-1, -1])))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_features_are_what_the_last_layer_makes_logits_of(name):
    model = build(TrainingSettings(model=name, mirror_answers=True), 3, (64, 64)).eval()
    images = torch.rand(2, 64, 64)
    with torch.no_grad():
        logits, features = model.answer_with_features(images)
        torch.testing.assert_close(logits, model.answer(images), atol=0, rtol=0)
        assert features.shape == (2, model.num_features)
        if name != "squeezenet1_1":
            torch.testing.assert_close(model._head(features), logits)
