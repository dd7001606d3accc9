"""One of several processes that something other than torchrun started says so; whoever is alone goes on."""

import os

import pytest

from adaln.launchers import COUNTS, NUMBERS, RANGES, RANKS, is_of_torchrun, refuse_other_launchers
from adaln.parallel import group_of_torchrun, world
from helpers.command_line import fails, run

SEVERAL = [
    {"RANK": "0", "WORLD_SIZE": "2"},
    {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"},
    {"WORLD_SIZE": "16"},
    {"RANK": "1"},
    {"LOCAL_RANK": "0"},
    {"LOCAL_RANK": "1"},
    {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
    {"PMI_SIZE": "4", "PMI_RANK": "3"},
    {"MV2_COMM_WORLD_SIZE": "2"},
    {"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"},
    {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"},
    {"SLURM_PROCID": "0", "SLURM_NPROCS": "2"},
    {"JSM_NAMESPACE_SIZE": "6", "JSM_NAMESPACE_RANK": "0"},
    {"FLUX_JOB_SIZE": "4", "FLUX_TASK_RANK": "0"},
    {"HOROVOD_SIZE": "2"},
    {"PMIX_RANK": "1"},
    {"PALS_RANKID": "3"},
    {"PADDLE_TRAINER_ID": "1"},
    *({name: "2"} for name in (*COUNTS, *RANGES)),
    *({name: "1"} for name in RANKS if name != "PMIX_RANK"),
    {"SLURM_PROCID": "0", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"},
    {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "ENVIRONMENT": "BATCH"},
]
ALONE = [
    {},
    {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "here", "MASTER_PORT": "1"},
    {"WORLD_SIZE": "", "PMI_SIZE": ""},
    *({name: "0"} for name in RANKS if name not in NUMBERS),
    *({name: "1"} for name in (*COUNTS, *RANGES)),
    {"PET_NNODES": "1:4", "PET_NPROC_PER_NODE": "gpu"},
    {"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"},
    {"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4", "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH"},
    {"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1"},
    {"N": "40", "D": "2"},  # somebody's own
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8"},  # a shell of salloc
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},  # one in a step
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH"},
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH"},  # a batch script
    {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_ARRAY_TASK_ID": "3"},  # a study's own job
]
KNOWN = {name for env in (*SEVERAL, *ALONE) for name in env}


@pytest.fixture
def environment(monkeypatch):
    def only(variables):
        for name in KNOWN | {"TORCHELASTIC_RUN_ID"}:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return only


@pytest.mark.parametrize("variables", SEVERAL, ids=str)
def test_one_of_several_is_refused_in_a_line_that_names_torchrun(environment, variables):
    environment(variables)
    with pytest.raises(
        ValueError, match=r"expected torchrun --nproc-per-node (\d+|N) PROGRAM \(for one .* unset \w+\)"
    ):
        refuse_other_launchers("PROGRAM")
    with pytest.raises(ValueError, match="torchrun"), group_of_torchrun():
        pytest.fail("it was let in")


@pytest.mark.parametrize("variables", ALONE, ids=str)
def test_a_process_alone_goes_on_wherever_it_runs(environment, variables):
    environment(variables)
    refuse_other_launchers("PROGRAM")
    with group_of_torchrun():
        assert (world(), is_of_torchrun()) == (1, False)


@pytest.mark.parametrize("value", ["two", "0", "-1", "1.5"])
@pytest.mark.parametrize("name", ["WORLD_SIZE", "PMI_SIZE"])
def test_a_count_that_is_none_is_named(environment, name, value):
    environment({name: value})
    with pytest.raises(
        ValueError, match=rf"^{name} is '{value}'; expected the number of processes \(.*unset {name}\)$"
    ):
        refuse_other_launchers("PROGRAM")


@pytest.mark.parametrize("variables", SEVERAL, ids=str)
def test_of_torchrun_every_process_is_welcome(environment, variables):
    environment(variables | {"TORCHELASTIC_RUN_ID": "none"})
    refuse_other_launchers("PROGRAM")
    assert is_of_torchrun()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "RANK is ''"),
        ({"RANK": "two", "WORLD_SIZE": "2"}, "RANK is 'two'"),
        ({"RANK": "0", "WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"RANK": "0", "WORLD_SIZE": "1"}, "MASTER_ADDR is ''"),
    ],
)
def test_half_of_what_torchrun_sets_is_named(environment, variables, said):
    environment(variables | {"TORCHELASTIC_RUN_ID": "x"})
    with pytest.raises(ValueError, match=rf"^{said} beside .*unset TORCHELASTIC_RUN_ID\)$"), group_of_torchrun():
        pytest.fail("it was let in")


@pytest.mark.parametrize(
    "verb", ["train digits", "sample r", "study quickstart", "audit net.pt", "data inspect a\\ set"]
)
def test_every_command_that_does_something_says_so_at_once_with_the_command_to_give(environment, capsys, verb):
    environment({"SLURM_STEP_NUM_TASKS": "2"})
    words = verb.replace("\\ ", "\0").split()
    line = fails(capsys, *(word.replace("\0", " ") for word in words))
    expected = verb.replace("a\\ set", "'a set'")
    assert f"expected torchrun --nproc-per-node 2 --no-python adaln {expected} (for one process alone: unset" in line


def test_what_only_lists_is_answered_by_each(environment, capsys):
    environment({"WORLD_SIZE": "2", "RANK": "0"})
    assert "adaln-zero" in run(capsys, "schemes")
    assert os.environ["WORLD_SIZE"] == "2"
