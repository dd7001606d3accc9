"""Who started this process, by the environment alone: torchrun, nobody, or what starts several that nobody can join."""

import os

COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where launchers say how many processes they started: by hand, Open MPI, MPICH and Intel, MVAPICH, srun."""
NUMBERS = ("RANK", "LOCAL_RANK")
"""Those of torchrun that number a process; without a count there may be any number of others."""


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
    """The variable that says that there are several processes, what it says, and how many; None of one alone."""
    env = os.environ
    for name in COUNTS:
        if (value := env.get(name, "")).isdecimal() and int(value) > 1:
            return name, value, value
    if "SLURM_PROCID" in env and "SLURM_STEP_NUM_TASKS" not in env and env.get("ENVIRONMENT") != "BATCH":
        tasks = env.get("SLURM_NTASKS", "")
        if tasks.isdecimal() and int(tasks) > 1:
            return "SLURM_NTASKS", tasks, tasks
    if "WORLD_SIZE" not in env:
        return next(((name, env[name], "N") for name in NUMBERS if env.get(name)), None)
    return None
