"""Starts rank processes by forking, with torch imported once: a process that imports it anew takes seconds.

Reads one JSON object a line: {"argv", "environment", "log", "break"} starts a rank and answers {"pid"};
{"wait": pid} answers {"status"}.
"""

import dataclasses
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import types

import torch

import mri_hpc.cluster.choice as choice_module
import mri_hpc.train as train_module
import mri_hpc.training.conditions as conditions_module
import mri_hpc.training.data_parallel as data_parallel_module
import mri_hpc.training.learner as learner_module
import mri_hpc.training.probe as probe_module
import mri_hpc.training.rank as rank_module
import mri_hpc.training.second_stage as second_stage_module
import mri_hpc.training.step_trial as step_trial_module
from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import STOP_SIGNALS
from mri_hpc.loading.batches import Batches
from mri_hpc.rundir.progress import Progress
from mri_hpc.training import checkpoint
from mri_hpc.training.evaluation import Answers
from mri_hpc.training.learner import Learner
from mri_hpc.training.step_way import StepWay

# The first rank of an attempt imports them as it begins, and when it has trained: seconds each time.
LATE = (
    "torch.utils.tensorboard", "sklearn.covariance", "mri_hpc.results.answers.calibration",
    "mri_hpc.results.answers.pooling_choice", "mri_hpc.results.answers.resemblance_run",
)  # fmt: skip

AMID_S = 0.5
"""For so long a write stands still that is signalled."""


def forget(field):
    """Resume as if the checkpoint did not hold this field of the progress."""
    train = rank_module.train

    def forgetful(settings, progress, *arguments, **options):
        lacking = dataclasses.replace(progress, **{field: getattr(Progress(), field)})
        return train(settings, lacking, *arguments, **options)

    rank_module.train = forgetful


def forget_optimizer():
    """Resume as if the checkpoint held the weights only."""
    Learner.restore = lambda self, state, of: self.load_weights(state.weights, of=of)


def forget_average(part):
    """Resume as if the checkpoint held the averaged weights, but not this beside them."""
    restore = Learner.restore

    def forgetful(self, state, of):
        instead = {"steps": 0, "last": state.weights}
        rest = {**state.rest, "average": {**state.rest["average"], part: instead[part]}}
        restore(self, dataclasses.replace(state, rest=rest), of=of)

    Learner.restore = forgetful


def no_dropout():
    """Take away what depends on how a step is cut into parts."""
    torch.nn.functional.dropout = lambda images, *arguments, **options: images


def seed_once():
    """Let dropout draw from where the process stands, as most trainers do."""
    learner_module.torch.manual_seed = lambda seed: None


def rebuild_buckets():
    """Let DDP do as it likes."""
    parallel = data_parallel_module.DistributedDataParallel
    data_parallel_module.DistributedDataParallel = lambda *arguments, **options: parallel(
        *arguments, **{**options, "find_unused_parameters": False}
    )


def signal_in(phase, name, after):
    """Signal this very process in the middle of a phase, after so many batches of it in this process."""
    read = {"training": Batches.training, "features": Batches.of_rows}.get(phase, Batches.of_split)
    split = {"validation": "validation", "prediction": "test"}.get(phase)

    count = itertools.count()

    def signalling(self, which):
        for batch in read(self, which):
            if (split is None or which == split) and next(count) == after:
                os.kill(os.getpid(), getattr(signal, name))
            yield batch

    setattr(Batches, read.__name__, signalling)


def run_in_validation(after, *command):
    """Run python in the middle of a validation, the one after so many of them in this process."""
    read, count = Batches.of_split, itertools.count()

    def running(self, split):
        if split == "validation" and next(count) == after:
            subprocess.run([sys.executable, *command], check=True, stdin=subprocess.DEVNULL)
        return read(self, split)

    Batches.of_split = running


def signal_in_attention(name, after):
    """Signal this very process after so many steps of the second stage."""
    steps = second_stage_module._steps

    def signalling(learning):
        for number, step in enumerate(steps(learning)):
            if number == after:
                os.kill(os.getpid(), getattr(signal, name))
            yield step

    second_stage_module._steps = signalling


def signal_at(module, name):
    """Signal this very process whenever something is called, before it is done."""
    *owners, attribute = name.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    call = getattr(owner, attribute)

    def signalling(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return call(*arguments, **options)

    setattr(owner, attribute, signalling)


def fail_at(module, name, text):
    """Refuse what is called, as a damaged file would have it."""

    def failing(*_arguments, **_options):
        raise UserError(text)

    setattr(importlib.import_module(module), name, failing)


def take_long_at(module, name, seconds):
    """Work for so long, in one piece, before something is done."""
    owner = importlib.import_module(module)
    call = getattr(owner, name)

    def taking_long(*arguments, **options):
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            pass
        return call(*arguments, **options)

    setattr(owner, name, taking_long)


def wait_for_ever_at(module, name):
    """Never come back from what is called, as from a disk that does not answer."""
    setattr(importlib.import_module(module), name, lambda *_arguments, **_options: threading.Event().wait())


def signal_in_part(step, part):
    """Signal this very process before a part of the step after so many."""
    add_gradient = Learner._add_gradient

    def signalling(self, batch, progress, **options):
        if (progress.step, batch.micro_batches[0].stream[-1]) == (step, part):
            os.kill(os.getpid(), signal.SIGTERM)
        return add_gradient(self, batch, progress, **options)

    Learner._add_gradient = signalling


def kill_after(seconds):
    """Know that the kill comes so many seconds after the signal."""
    choice_module.kill_time_of = lambda environment: lambda request: request.received_s + seconds


def have_other_conditions(device, threads):
    """Be on another device, with another number of threads."""
    conditions_module.device_model = lambda _device: device
    train_module.threads_of = lambda *_arguments: threads


def set_clock(seconds):
    """Be on a host whose clock is so many seconds ahead."""
    now = time.time
    time.time = lambda: now() + seconds


def wait_no_longer():
    """Have no patience with ranks that do not come, once told to stop."""
    importlib.import_module("mri_hpc.training.meeting").STOP_PATIENCE_S = 0.5


def suspend(step):
    """Be suspended before this step, once."""
    train_step = Learner.train_step

    def suspended(self, batch, progress, **options):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGSTOP)
        return train_step(self, batch, progress, **options)

    Learner.train_step = suspended


def break_loss(step):
    """Make the loss of one rank infinite at this step."""
    share = Learner.share_of_loss

    def broken(self, *given):
        broken.calls += 1
        return share(self, *given) * (float("inf") if broken.calls == step else 1)

    broken.calls = 0
    Learner.share_of_loss = broken


def break_weights(step):
    """Lose one number of the weights with this step, whose loss says nothing of it."""
    train_step = Learner.train_step

    def broken(self, batch, progress, **options):
        loss = train_step(self, batch, progress, **options)
        if progress.step == step:
            with torch.no_grad():
                next(self.model.parameters()).view(-1)[-1] = float("nan")
        return loss

    Learner.train_step = broken


def break_validation():
    """Have no number for the loss of a validation."""
    Answers.mean_loss = property(lambda self: float("nan"))


def die_while_saving():
    """Be killed when a checkpoint is written but not yet published."""
    checkpoint.Manifest = lambda **values: os.kill(os.getpid(), signal.SIGKILL)


def signal_amid_write(step, name, pieces):
    """Signal this very process once so many pieces of the state after a step are written.

    The write goes on a little later, so that it is under way when the ranks agree to stop.
    """
    write = checkpoint.write_weights

    def writing(path, weights, *, before_piece):
        left = iter(range(pieces))

        def before():
            if next(left, "none") == "none" and path not in signalled:
                signalled.append(path)
                os.kill(os.getpid(), getattr(signal, name))
                until = time.monotonic() + AMID_S
                while time.monotonic() < until:
                    before_piece()
                    time.sleep(0.01)
            before_piece()

        is_meant = path.parent.name.endswith(f"-{step}")
        return write(path, weights, before_piece=before if is_meant else before_piece)

    signalled = []
    checkpoint.write_weights = writing


def freeze_at(module, name, number):
    """Stand still before something is done for this time, as a machine does that is cut off or suspended."""
    owner = importlib.import_module(module)
    call, count = getattr(owner, name), itertools.count(1)

    def freezing(*arguments, **options):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGSTOP)
        return call(*arguments, **options)

    setattr(owner, name, freezing)


def hang(step):
    """Never come back from this step."""
    train_step = Learner.train_step

    def hanging(self, batch, progress, **options):
        if progress.step == step:
            signal.pause()
        return train_step(self, batch, progress, **options)

    Learner.train_step = hanging


def time_few_steps():
    """Probe by one step of each kind."""
    probe_module.FEWEST = probe_module.MOST = 1


def make_up_times(read_s, compute_s, step_s):
    """Take so long to read an image and to compute one, and for each step, by a clock that is made up."""
    now = types.SimpleNamespace(s=0.0)
    train_step, training = Learner.train_step, Batches.training

    def stepping(self, batch, progress, **options):
        now.s += step_s + compute_s * len(batch.images)
        return train_step(self, batch, progress, **options)

    def reading(self, progress):
        given_s = now.s
        for batch in training(self, progress):
            # It is read while the step before is computed.
            given_s = now.s = max(now.s, given_s + read_s * len(batch.images))
            yield batch

    Learner.train_step, Batches.training = stepping, reading
    probe_module.clock = lambda: now.s


def time_layouts(seconds):
    """Find in a trial, however short the run, that steps with channels last take so long, and others 1 s."""
    times = {StepWay.FUSED: [1.0] * 5, StepWay.CHANNELS_LAST: [seconds] * 5}
    step_trial_module.ENOUGH_STEPS = 0
    step_trial_module._time_in_turns = lambda *_arguments: times


BREAKS = {
    "time_layouts": time_layouts,
    "make_up_times": make_up_times,
    "environ": os.environ.update,
    "time_few_steps": time_few_steps,
    "forget": forget,
    "forget_optimizer": forget_optimizer,
    "forget_average": forget_average,
    "no_dropout": no_dropout,
    "seed_once": seed_once,
    "rebuild_buckets": rebuild_buckets,
    "signal_in": signal_in,
    "run_in_validation": run_in_validation,
    "signal_in_attention": signal_in_attention,
    "signal_at": signal_at,
    "fail_at": fail_at,
    "take_long_at": take_long_at,
    "wait_for_ever_at": wait_for_ever_at,
    "signal_in_part": signal_in_part,
    "kill_after": kill_after,
    "have_other_conditions": have_other_conditions,
    "set_clock": set_clock,
    "wait_no_longer": wait_no_longer,
    "suspend": suspend,
    "break_loss": break_loss,
    "break_weights": break_weights,
    "break_validation": break_validation,
    "die_while_saving": die_while_saving,
    "signal_amid_write": signal_amid_write,
    "freeze_at": freeze_at,
    "hang": hang,
    "umask": os.umask,
}


def start(request):
    # As whoever starts a rank does: until it listens, stop signals wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        return pid
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    for name, *arguments in request["break"]:
        BREAKS[name](*arguments)
    status = 1
    try:
        status = train_module.main(request["argv"])
    except SystemExit as leaving:
        status = leaving.code
    finally:
        # A child must not go on as the nursery, whatever happened.
        if sys.exc_info()[0]:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve():
    torch.set_num_threads(1)
    for name in LATE:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        else:
            answer = {"pid": start(request)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
