"""Random seeds that depend on what is drawn, never on the order in which it is drawn."""

import numpy as np


def child_seed(seed: np.random.SeedSequence, *keys: int) -> np.random.SeedSequence:
    """Return the child of `seed` that the keys name.

    Unlike `SeedSequence.spawn`, whose children are counted, the same keys give the same child
    in any thread and at any time.
    """
    return np.random.SeedSequence(entropy=seed.entropy, spawn_key=(*seed.spawn_key, *keys))
