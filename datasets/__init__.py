"""From recordings to vectors: catalogue, clips, features, cache, loaders."""
