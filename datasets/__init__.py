"""From recordings to vectors: catalogue, clips, features, cache, loaders."""

import common  # noqa: F401 (before NumPy, whose instruction set it fixes)
