"""Where a new run starts from when it does not start from nothing."""

from typing import Any

from timbre import config as configs
from timbre.errors import CheckpointError
from timbre.models import WITHOUT_WEIGHTS, GeneratorConfig, checkpoint
from timbre.models.discriminators import DiscriminatorConfig
from timbre.train.gan.gan import Gan, unwrap

# What a new run takes from another's training state; steps, schedule and scale are its own.
TAKEN = ("generator", "average", "discriminator", "generator_optimizer", "discriminator_optimizer")


def start_from(
    url: str, gan: Gan, generator: GeneratorConfig, discriminator: DiscriminatorConfig
) -> bool:
    """Fill a fresh Gan from ``url``; return whether its discriminator has learned already.

    A training state (``.pt``) gives both networks, the average and both optimizers' moments; a
    ``.safetensors`` file the generator's weights alone. The generator's limits are the config's.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is something else, damaged, or of another architecture.
    """
    if not url.endswith(".pt"):
        tree, tensors = checkpoint.read_generator(url)
        refuse_other(url, {"generator": _with_limits_of(generator, tree)}, generator)
        for network in (unwrap(gan.generator), gan.average):
            network.load_state_dict(tensors)
        return False
    state = checkpoint.load(url)
    tree = _with_limits_of(generator, state["config"].get("generator", {}))
    refuse_other(url, {**state["config"], "generator": tree}, generator, discriminator)
    gan.load_state_dict({"step": 0, **{name: state["gan"][name] for name in TAKEN}})
    return bool(state["gan"]["discriminator_optimizer"]["state"])


def _with_limits_of(config: GeneratorConfig, saved: dict[str, Any]) -> dict[str, Any]:
    return {**saved, **{key: getattr(config, key) for key in WITHOUT_WEIGHTS}}


def refuse_other(
    url: str,
    saved: dict[str, Any],
    generator: GeneratorConfig,
    discriminator: DiscriminatorConfig | None = None,
) -> None:
    """Raise CheckpointError unless the config that a checkpoint was ``saved`` with has these."""
    differing = []
    for name, config in [("generator", generator), ("discriminator", discriminator)]:
        if config is None:
            continue
        now = configs.to_tree(config)
        # Keys that the file is too old for are at their defaults.
        then = {**configs.to_tree(type(config)()), **saved.get(name, {})}
        differing += [
            f"{name}.{key} was {then.get(key)!r}, the config says {now.get(key)!r}"
            for key in sorted({*now, *then})
            if now.get(key) != then.get(key)
        ]
    if differing:
        raise CheckpointError(
            f"{url}: a checkpoint of another architecture: {'; '.join(differing)}; "
            "change the config, or choose another run_dir or init_from"
        )
