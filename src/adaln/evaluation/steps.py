"""At which steps a run is scored and held-out losses are taken."""

from collections.abc import Collection, Sequence

from adaln.config import RunConfig
from adaln.evaluation.held_out import NOT_HELD_OUT


def scored_steps(config: RunConfig, at: Sequence[int], every: int | None, name: str = "every") -> tuple[int, ...]:
    """The steps asked for, ascending: `at`, and with `every`, the option `name`, all multiples of it and the last
    step.

    Raises ValueError for a step that leaves no checkpoint, naming the nearest that does and what makes all of them.
    """
    if every is not None and every < 1:
        raise ValueError(f"evaluate.{name} is {every}; expected an integer >= 1")
    regular = (*range(every, config.steps, every), config.steps) if every else ()
    regularly = range(config.checkpoint_every, config.steps, config.checkpoint_every)
    kept = sorted({*regularly, *(step for step in config.keep_at if 0 < step < config.steps), config.steps})
    for option, steps in (("at", at), (name, regular)):
        if lacking := sorted({*steps} - {*kept}):
            near = min(kept, key=lambda one: abs(one - lacking[0]))
            within = [str(step) for step in lacking if 0 < step < config.steps]
            ways = f"--keep-at {' '.join(within)}" if option == "at" else f"--checkpoint-every {every}"
            raise ValueError(
                f"evaluate.{option} asks for step {lacking[0]}, which leaves no checkpoint (checkpoint_every is"
                f" {config.checkpoint_every}, the last step {config.steps}); the nearest that does is {near}"
                + f"; {ways} makes all that are asked for"
                * bool(within)
            )
    return tuple(sorted({*at, *regular}))


def loss_steps(config: RunConfig, asked: Collection[int], score_at: Collection[int]) -> tuple[int, ...]:
    """The steps at which held-out losses are taken: those asked for, and the scored ones where data is held out.

    Raises ValueError where they are asked for and nothing is.
    """
    if asked and not config.data.held_out:
        raise ValueError(f"{NOT_HELD_OUT}: begin with --data.held-out 0.1")
    return tuple(sorted({*asked, *score_at})) if config.data.held_out else ()


def unscored_line(steps: Sequence[int]) -> str:
    """What is said of steps that were to be scored and lie on disk no more."""
    return f"not scored: steps {', '.join(map(str, steps))}, whose checkpoints are gone (see keep_checkpoints)"
