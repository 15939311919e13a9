"""``--nodes LOW-HIGH`` on a real Slurm: each start of the job has the nodes that are free then."""

from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import Plan, sizes_of, submit_once
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.settings import JobSettings, load_training


def test_a_run_has_the_nodes_that_are_free_each_time_it_starts(slurm, planned_run, monkeypatch):
    for name in ("SLURM_CONF", "MRI_SANDBOX_DIR"):
        monkeypatch.setenv(name, slurm.env[name])
    job = JobSettings(cluster="slurm", nodes="1-4", tasks_per_node=2, gpus_per_node=0)
    run = planned_run(job=job, steps=100_000, step_s=0.05, then=20)
    taken = slurm.sbatch("-p", "high", "-N3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 600")
    slurm.wait_state(taken, "RUNNING")
    scheduler = scheduler_for(job)
    sizes = sizes_of(scheduler, job, batch_size=16, micro_batches=8)
    submit_once(Plan(run=run, training=load_training(run), job=job, is_new=False), scheduler, sizes)
    slurm.wait_until(lambda: read_metrics(run), what="a step", timeout_s=180)
    slurm.run(["scancel", taken])
    slurm.wait_end(taken)
    job_id = job_of(run, 1).job_id
    slurm.run(["scontrol", "requeue", job_id])
    slurm.wait_until(lambda: len(run.all_attempts()) == 2, what="the next attempt", timeout_s=180)
    slurm.wait_end(job_id, timeout_s=180)
    ranks = [
        len(list(run.attempt_folder(Attempt(submission=1, restart=restart)).glob("rank*.log")))
        for restart in range(2)
    ]
    assert ranks == [2, 8]
