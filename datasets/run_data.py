"""The clips of a run: one data set and some of its sections, listed and turned into vectors."""

import torch

from common import Settings
from datasets.catalogue import load_challenge, split_dataset_name
from datasets.clips import Clip, MachineFolders, check_training_clips, list_clips
from datasets.front_ends import make_front_end
from datasets.vectors import Vectors, load_vectors


class RunData:
    """Where a run's clips are.

    Parameters
    ----------
    dataset
        Challenge and machine type, DCASE2023T2fan.
    sections
        None: all that the folders have.
    """

    def __init__(self, dataset: str, is_eval: bool, sections: list[int] | None, settings: Settings):
        challenge, machine_type = split_dataset_name(dataset)
        self.dataset, self.is_eval, self.sections = dataset, is_eval, sections
        self.folders = MachineFolders(settings.dataset_directory, challenge, machine_type, is_eval)
        # None: as many as the first clip has
        self.channels = load_challenge(challenge, is_eval, settings.dataset_directory).channels
        self._mirror = settings.mirror

    def download(self, training: bool, testing: bool) -> None:
        """Download the clips that training or testing needs and that are missing."""
        from datasets.fetch import download_for_run

        download_for_run(self.folders, training, testing, self._mirror)

    def training_clips(self) -> list[Clip]:
        """List the training clips, which must be normal."""
        clips = [clip for section in list_clips(self.folders.train, self.sections).values() for clip in section]
        check_training_clips(clips)
        return clips

    def vectors(self, clips: list[Clip], settings: Settings, device: torch.device) -> Vectors:
        """Load the clips' features, from the cache or computed now, as vectors on a device."""
        return load_vectors(clips, make_front_end(settings), settings, self.folders, self.channels, device)
