"""Who started this process, by the environment alone: torchrun, nobody, or what starts several that nobody can join."""

import os

COUNTS = (
    *("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"),
    *("JSM_NAMESPACE_SIZE", "FLUX_JOB_SIZE", "HOROVOD_SIZE", "LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS"),
)
"""Where launchers say how many processes they started: by hand, Open MPI, MPICH and Intel, MVAPICH, srun, jsrun, Flux,
Horovod."""
TASKS = ("SLURM_NTASKS", "SLURM_NPROCS")
"""Where Slurm says it of an allocation, which may be one process's own."""
NUMBERS = ("RANK", "LOCAL_RANK")
"""Those of torchrun that number a process; without a count there may be any number of others."""
RANKS = (
    *(*NUMBERS, "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK"),
    *("FLUX_TASK_RANK", "HOROVOD_RANK", "PALS_RANKID", "ALPS_APP_PE", "MPI_LOCALRANKID"),
)
"""Where launchers number a process; what is not the first is not alone."""


def is_of_torchrun() -> bool:
    """Whether torchrun started this process, perhaps with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def refuse_other_launchers(command: str) -> None:
    """ValueError in one process of several that torchrun did not start: each would do all of the work.

    A batch script or a shell of Slurm is one process, whatever number of tasks was allocated.
    """
    count = None if is_of_torchrun() else _count()
    if count:
        name, value, number = count
        raise ValueError(
            f"{name} is {value}: this is one of several processes, which torchrun did not start; expected torchrun"
            f" --nproc-per-node {number} {command} (for one process alone: unset {name})"
        )


def _count() -> tuple[str, str, str] | None:
    """The variable that says that there are several processes, what it says, and how many; None of one alone.

    `ValueError` where a count is no number.
    """
    env = os.environ
    counts = {name: value for name in COUNTS if (value := env.get(name))}
    if "SLURM_PROCID" in env and "SLURM_STEP_NUM_TASKS" not in env and env.get("ENVIRONMENT") != "BATCH":
        counts |= {name: value for name in TASKS if (value := env.get(name))}
    for name, value in counts.items():
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(
                f"{name} is {value!r}; expected the number of processes (for one process alone: unset {name})"
            )
        if int(value) > 1:
            return name, value, value
    unnumbered = () if "WORLD_SIZE" in env else NUMBERS
    later = [name for name in RANKS if (value := env.get(name, "")).isdecimal() and int(value) > 0]
    return next(((name, env[name], "N") for name in (*unnumbered, *later) if env.get(name)), None)
