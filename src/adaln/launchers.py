"""Who started this process, by the environment alone: torchrun, nobody, or what starts several that nobody can join."""

import os

COUNTS = (
    *("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"),
    *("JSM_NAMESPACE_SIZE", "FLUX_JOB_SIZE", "HOROVOD_SIZE", "LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS"),
    *("OMPI_COMM_WORLD_LOCAL_SIZE", "PMI_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "PALS_LOCAL_SIZE"),
    *("SLURM_STEP_NUM_NODES", "NNODES", "NUM_MACHINES", "ACCELERATE_NUM_PROCESSES", "PADDLE_TRAINERS_NUM"),
)
"""Where launchers say how many processes, or machines with some each, they started: by hand, Open MPI, MPICH and Intel,
MVAPICH, srun, jsrun, Flux, Horovod, PALS, Accelerate, Paddle."""
RANGES = ("PET_NNODES", "PET_NPROC_PER_NODE")
"""What torchrun is to start; it may be a range, `1:4`, or a word, which says nothing."""
TASKS = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS_PER_NODE")
"""Where Slurm says it of an allocation, which may be one process's own."""
NUMBERS = ("RANK", "LOCAL_RANK")
"""Those of torchrun that number a process; without a count there may be any number of others."""
RANKS = (
    *(*NUMBERS, "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "MV2_COMM_WORLD_RANK", "JSM_NAMESPACE_RANK"),
    *("FLUX_TASK_RANK", "HOROVOD_RANK", "PALS_RANKID", "ALPS_APP_PE", "MPI_LOCALRANKID", "MPIRUN_RANK"),
    *("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK"),
    *("PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "NODE_RANK", "GROUP_RANK", "MACHINE_RANK", "PET_NODE_RANK"),
    "PADDLE_TRAINER_ID",
)
"""Where launchers number a process; what is not the first is not alone."""


def is_of_torchrun() -> bool:
    """Whether torchrun started this process, perhaps with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return not is_of_torchrun() or os.environ.get("RANK", "0") == "0"


def check_torchrun() -> None:
    """ValueError where a variable of torchrun is missing or holds no number: only some of them were passed on."""
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        value = os.environ.get(name, "")
        if not value or (name != "MASTER_ADDR" and not value.isdecimal()):
            raise ValueError(
                f"{name} is {value!r} beside TORCHELASTIC_RUN_ID; expected what torchrun sets"
                " (for one process alone: unset TORCHELASTIC_RUN_ID)"
            )


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
    counts |= {name: value for name in RANGES if (value := env.get(name, "")).isdecimal()}
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
