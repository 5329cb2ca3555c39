"""Networks and checkpoints that can be read, but have unexpected content, are refused."""

import pytest
import torch
from synthetic import checkpoint_path, network_path, written

TENSORS = {
    "NaN": lambda tensor: tensor * float("nan"),
    "infinite": lambda tensor: tensor / 0,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "float64": lambda tensor: tensor.double(),
    "float16": lambda tensor: tensor.half(),
    "integer": lambda tensor: tensor.long(),
    "of another shape": lambda tensor: tensor.flatten()[:-1],
    "text": lambda tensor: "weights",
    "nothing": lambda tensor: None,
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("key", ["encoder.3.weight", "encoder.1.running_var", "cov_target"])
def test_a_network_with_tensors_of_another_kind_is_refused(call_train, workplace, trained, kind, key):
    path = network_path(workplace)
    path.with_suffix(".json").unlink()  # as from elsewhere; with a record, the hash would tell
    state = torch.load(path, weights_only=True)
    state[key] = TENSORS[kind](state[key])
    torch.save(state, path)
    outcome = call_train(*trained, "--test_only")
    assert outcome.status == 1
    assert f"{path} does not fit n_mels 128 and frames 5 (" in outcome.err
    assert key in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def adam(checkpoint):
    """Return Adam's state of one parameter, a weight."""
    return checkpoint["step"]["optimizer"]["state"][4]


def set_steps(checkpoint, value):
    """Set Adam's number of steps."""
    for state in checkpoint["step"]["optimizer"]["state"].values():
        state["step"] = value


CHECKPOINTS = {
    **{
        f"{key}, {kind}": lambda c, of=of, key=key, change=change: of(c).update({key: change(of(c)[key])})
        for of, key in ((lambda c: c["network"], "encoder.3.weight"), (adam, "exp_avg"), (adam, "exp_avg_sq"))
        for kind, change in TENSORS.items()
        if (kind, key) != ("infinite", "exp_avg")  # 0 / 0 is NaN
    },
    "second moment below 0": lambda c: adam(c)["exp_avg_sq"].neg_(),
    "steps below 0": lambda c: set_steps(c, torch.tensor(-1.0)),
    "steps a text": lambda c: set_steps(c, "seven"),
    "steps a fraction": lambda c: set_steps(c, torch.tensor(7.5)),
    "steps that differ": lambda c: adam(c).update(step=torch.tensor(70.0)),
    "steps out of range": lambda c: set_steps(c, torch.tensor(2.0**60)),
    "losses NaN": lambda c: c["batch_losses"].__setitem__(0, float("nan")),
    "losses a text": lambda c: c["batch_losses"].__setitem__(0, "small"),
    "losses of an epoch missing": lambda c: c["epochs"][0].pop("val_loss"),
    "losses of an epoch NaN": lambda c: c["epochs"][1].update(val_loss=float("nan")),
    "Python's generator out of range": lambda c: c["random"].update(python=(3, (2**40,) * 625, None)),
    "Python's generator short": lambda c: c["random"].update(python=(3, (1, 2), None)),
    "NumPy's generator short": lambda c: c["random"].update(numpy=("MT19937", torch.zeros(3), 0, 0, 0.0)),
    "NumPy's generator out of range": lambda c: c["random"].update(
        numpy=("MT19937", torch.zeros(624, dtype=torch.int64), 10**6, 0, 0.0)
    ),
    "torch's generator short": lambda c: c["random"].update(torch=torch.zeros(3, dtype=torch.uint8)),
    "torch's generator of another type": lambda c: c["random"].update(torch=torch.zeros(5056)),
    "no generators": lambda c: c.update(random=None),
    "no step": lambda c: c.pop("step"),
    "no identity": lambda c: c.update(identity=None),
    "trace of another form": lambda c: c.update(resumed_from=[3]),
}


@pytest.mark.parametrize("change", CHECKPOINTS)
def test_a_checkpoint_with_content_of_another_kind_is_refused(call_train, workplace, trained, change):
    path = checkpoint_path(workplace)
    content = torch.load(path, weights_only=True)
    CHECKPOINTS[change](content)
    torch.save(content, path)
    before = written(workplace)
    outcome = call_train(*trained, "--train_only", "--restart", "--epochs", "3")
    assert outcome.status == 1, outcome.out
    assert f"{path} is not a checkpoint of this run's network and optimiser" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert written(workplace) == before
