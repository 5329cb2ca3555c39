"""The clips of a run: one data set and some of its sections, listed and turned into vectors."""

from common import InputError, Settings, as_text

import torch

from datasets.cache import load_features
from datasets.catalogue import OWN, load_challenge, split_dataset_name
from datasets.clips import Clip, MachineFolders, check_training_clips, clip_paths, list_clips
from datasets.download import Source, fetch_part
from datasets.front_ends import make_front_end
from datasets.vectors import Vectors
from runtime.wording import counted


class RunData:
    """The clips of a run: a data set such as DCASE2023T2fan, and some of its sections, by default all."""

    def __init__(self, dataset: str, is_eval: bool, sections: list[int] | None, settings: Settings):
        name, machine_type = split_dataset_name(dataset)
        challenge = load_challenge(name, is_eval, settings.dataset_directory)
        self.dataset, self.is_eval, self.sections = dataset, is_eval, sections
        self.folders = MachineFolders(settings.dataset_directory, name, machine_type, is_eval)
        if not self.folders.raw.is_dir():
            challenge.choose([machine_type])
        self.channels = challenge.channels  # None requires as many as the first clip has
        if settings.mono not in (None, self.channels == 1):
            channels = counted(self.channels, "channel") if self.channels else "any number of channels"
            raise InputError(
                f"--mono {as_text(settings.mono)}, but the clips of {name} have {channels}; leave the option out, and "
                "choose one of several with --channel"
            )
        self._mirror = settings.mirror

    def download(self, training: bool, testing: bool) -> None:
        """Download the clips that training or testing needs, unless there are some."""
        if self.folders.challenge == OWN:  # reading them reports missing ones
            return
        training_part, test_part = ("add", "eval") if self.is_eval else ("dev", "dev")
        needed = ((training_part, training, self.folders.train), (test_part, testing, self.folders.test))
        for part, is_needed, folder in needed:
            if is_needed and not clip_paths(folder):
                machine_types, root = [self.folders.machine_type], self.folders.dataset_directory
                fetch_part(self.folders.challenge, part, machine_types, root, Source(self._mirror))

    def training_clips(self) -> list[Clip]:
        """List the training clips, which must be normal."""
        clips = [clip for section in list_clips(self.folders.train, self.sections).values() for clip in section]
        check_training_clips(clips)
        return clips

    def vectors(self, clips: list[Clip], settings: Settings, device: torch.device) -> Vectors:
        """Load the features of a folder's clips, from the cache or computed now, as vectors on a device."""
        folder = self.folders.processed(settings.cache_directory)
        is_beside_clips = settings.cache_directory is None and clips[0].path.parent.parent == self.folders.raw
        features = load_features(clips, make_front_end(settings), self.channels, folder, is_beside_clips)
        return Vectors(features, clips, settings, device)
