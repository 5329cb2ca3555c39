"""Crashes, several processes at once, full disks, odd files: the short versions of crash.py and fuzz.py among them."""

import errno
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile
from synthetic import REPOSITORY, RUN, checkpoint_path, machine_folder, make_settings, network_path, write_machine

from datasets.audio import read_header, read_samples
from datasets.cache import load_features
from datasets.clips import list_clips
from datasets.front_ends import make_front_end
from networks.checkpoint import load_tensors
from tools.results import __main__ as summarize_results
from tools.runtime import files, progress
from tools.runtime.process import STOP_SIGNALS, run_command


def test_a_stopped_training_saves_what_it_has(call_train, workplace, options):
    words = [*options, "--train_only", "--epochs", "100000", "--checkpoint_interval", "100000"]
    command = [sys.executable, REPOSITORY / "train.py", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not process.stdout.readline().startswith("epoch   3/"):
        assert process.poll() is None
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.startswith("error: stopped by SIGTERM; ")
    assert "epochs are saved; the same command with --restart resumes there" in err
    n_epochs = int(err.partition(" of 100000 epochs are saved")[0].split()[-1])
    resumed = call_train(*words, "--restart", "--epochs", n_epochs)
    assert f"{n_epochs} of {n_epochs} epochs are done" in resumed.out


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_counts_although_cleaning_up_after_it_fails(number, capsys):
    """As that of argparse does: it sets back what it had not yet set."""

    def work():
        try:
            os.kill(os.getpid(), number)
            time.sleep(60)
        finally:
            raise AttributeError("nothing was saved")

    assert run_command(work) == 128 + number
    assert capsys.readouterr().err.startswith(f"error: stopped by {number.name}; ")


def test_a_test_waits_for_the_training_of_its_network(call_train, workplace, options):
    assert call_train(*options).status == 0
    lock = checkpoint_path(workplace).with_name("lock")
    code = (
        "import fasteners, sys, time; lock = fasteners.InterProcessLock(sys.argv[1]); lock.acquire(); print(flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", f"{code}; time.sleep(1)", lock], stdout=subprocess.PIPE) as trains:
        trains.stdout.readline()
        outcome = call_train(*options, "--test_only")
        assert trains.poll() is not None
    assert outcome.status == 0
    assert f"waiting for another process that trains {RUN}" in outcome.out


def test_what_a_killed_process_has_left_is_removed_but_nothing_of_a_running_one(call_train, workplace, options):
    assert call_train(*options).status == 0
    network = network_path(workplace)
    begun = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path\n"
        "from tools.runtime.files import FileGroup\n"
        "with FileGroup() as group: group.open(Path(sys.argv[2])); print(flush=True); time.sleep(1000)"
    )
    command = [sys.executable, "-c", begun, REPOSITORY, network]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE)]
    try:
        processes[0].stdout.readline()
        (left,) = network.parent.glob("*.partial")
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        processes[1].stdout.readline()
        (others,) = set(network.parent.glob("*.partial")) - {left}
        processes[0].kill()
        processes[0].wait()
        assert left.exists()
        assert call_train(*options).status == 0
        assert not left.exists()
        assert others.exists()  # of another process, which may be at work, here or in another container
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_links_and_files_at_temporary_names_are_left_alone(tmp_path, monkeypatch):
    target, victim = tmp_path / "network.pth", tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)
    planted = tmp_path / f"{files._prefix(target)}{'0' * 16}.partial"
    planted.symlink_to(victim)
    with pytest.raises(files.InputError, match=r"cannot write .*network\.pth: "), files.atomic_write(target):
        pass
    assert (victim.read_text(), target.exists()) == ("precious", False)
    planted.unlink()
    os.mkfifo(planted)  # which opening would wait for
    with files.atomic_write(target) as file:
        file.write("weights")
    assert target.read_text() == "weights"


def test_a_run_leaves_a_record(call_train, workplace, options):
    assert call_train(*options).status == 0
    record = json.loads(network_path(workplace).with_suffix(".json").read_text())
    assert (record["seed"], record["epochs"], record["n_mels"], record["sections"]) == (13711, 2, 128, None)
    assert set(record["versions"]) >= {"python", "torch", "numpy", "librosa"}
    assert len(record["clips_manifest"]) == 64
    assert record["seconds"]["epochs"] > 0
    assert record["commit"] is None or len(record["commit"].removesuffix("-dirty")) == 40


def test_another_set_of_clips_does_not_resume_from_a_checkpoint(call_train, workplace, options):
    assert call_train(*options).status == 0
    next((machine_folder(workplace / "data") / "train").glob("*.wav")).unlink()
    outcome = call_train(*options, "--restart", "--epochs", "3")
    assert outcome.status == 1
    assert "the training clips are not those of " in outcome.err


# --- a disk that is full ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """Yield a folder on a disk of 24 MB, and a function that leaves only so many bytes of it free."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk can only be mounted as root")

    def leave(n_bytes: int | None) -> None:
        filler = disk / "filler"
        filler.unlink(missing_ok=True)
        os.sync()
        if n_bytes is not None:
            with filler.open("wb", buffering=0) as file:
                while (excess := shutil.disk_usage(disk).free - n_bytes) > 0:
                    file.write(bytes(excess))

    yield disk, leave
    subprocess.run(["umount", disk], check=True)


def contents(folder: Path) -> dict[Path, bytes]:
    """Return what runs have given: all but checkpoints, features and logs."""
    return {
        path: path.read_bytes()
        for name in ("models/saved_model", "results")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def test_a_full_disk_is_reported_at_every_stage_and_nothing_is_lost(
    call_train, monkeypatch, capsys, tmp_path, small_disk
):
    disk, leave = small_disk
    write_machine(machine_folder(tmp_path / "data"), n_train=12, n_test=4, seconds=1.0)
    options = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--dataset_directory", tmp_path / "data"]
    options += ["--cache_directory", disk / "cache"]
    options += [f"--{kind}_directory={disk / kind}s" for kind in ("model", "result", "log")]

    def summarize() -> int:
        monkeypatch.setattr("sys.argv", ["03", "DCASE2023T2", "-d", "--result_directory", str(disk / "results")])
        return summarize_results.main()

    def step(*words: object) -> int:
        outcome = call_train(*options, *words)
        print(outcome.err, file=sys.stderr)
        return outcome.status

    assert step("--epochs", 2) == step("--test_only", "--score", "MAHALA") == summarize() == 0
    size = next(disk.glob("models/saved_model/baseline/*.pth")).stat().st_size
    train, test = partial(step, "--train_only", "--epochs", 3), partial(step, "--test_only", "--score", "MAHALA")
    stages = {  # what is run, bytes that are free, whether there are features
        "features": (train, 50_000, False),
        "checkpoint": (train, 2 * size, True),
        "network": (partial(train, "--restart"), size // 2, True),
        "test features": (test, 20_000, False),
        "results": (test, 8_192, True),
        "tables": (summarize, 4_096, True),
    }
    for name, (stage, free, has_features) in stages.items():
        if name == "network":  # a run that stopped after its last epoch
            next(disk.glob("models/saved_model/baseline/*.pth")).unlink()
        if not has_features:
            shutil.rmtree(disk / "cache")
        before = contents(disk)
        leave(free)
        capsys.readouterr()
        assert stage() == 1, name
        error = capsys.readouterr().err
        assert "No space left on device" in error, name
        assert "Traceback" not in error
        leave(None)
        assert contents(disk) == before, name
        assert stage() == 0, name
        assert not list(disk.rglob("*.partial"))


def test_a_read_only_folder_with_its_features_is_enough(call_train, small_disk, tmp_path):
    disk, _ = small_disk
    write_machine(machine_folder(disk / "data"))
    folders = ["--dataset_directory", disk / "data", "--model_directory", disk / "models"]
    words = ["--dataset", "DCASE2023T2fan", "-d", "--batch_size", "16", "--epochs", "2", *folders]
    words += ["--log_directory", tmp_path / "logs", "--result_directory", tmp_path / "results"]
    assert call_train(*words, "--train_only").status == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    outcome = call_train(*words, "--test_only")
    assert outcome.status == 1
    assert "Read-only file system" in outcome.err
    assert "--cache_directory" in outcome.err
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    assert call_train(*words, "--test_only").status == 0
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    shutil.rmtree(tmp_path / "results")
    assert call_train(*words, "--test_only").status == 0
    assert list((tmp_path / "results").rglob("anomaly_score*.csv"))


# --- odd files and folders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "subtype", "rate", "channels", "sentence"),
    [
        ("WAV", "PCM_U8", 16000, 1, None),
        ("WAV", "PCM_24", 16000, 1, None),
        ("WAV", "FLOAT", 16000, 1, None),
        ("WAV", "PCM_16", 44100, 1, None),
        ("FLAC", "PCM_16", 16000, 1, None),
        ("WAV", "PCM_16", 16000, 2, "has 2 channel(s)"),
    ],
)
def test_formats_work_or_are_reported(call_train, workplace, options, kind, subtype, rate, channels, sentence):
    for i, path in enumerate(sorted(machine_folder(workplace / "data").rglob("*.wav"))):
        samples = np.random.default_rng(i).uniform(-0.5, 0.5, (rate // 2, channels))
        soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    outcome = call_train(*options)
    assert outcome.status == (0 if sentence is None else 1), outcome.err
    assert sentence is None or sentence in outcome.err


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda content: b"", "(no bytes)"),
        (lambda content: content[:44], "truncated: its header says 16000 bytes of samples, but there are 0"),
        (lambda content: content[:9000], "truncated: its header says 16000 bytes of samples, but there are 8956"),
        (lambda content: content[:40] + (10**9).to_bytes(4, "little") + content[44:], "truncated: its header says"),
        (lambda content: content[:40] + (2).to_bytes(4, "little") + b"\0\1", "too short: 1 frame(s)"),
        (lambda content: content[:24] + bytes(4) + content[28:], "cannot be read as audio"),
    ],
)
def test_damaged_recordings_are_reported(call_train, workplace, options, damage, sentence):
    path = sorted((machine_folder(workplace / "data") / "train").iterdir())[1]
    path.write_bytes(damage(path.read_bytes()))
    outcome = call_train(*options)
    assert outcome.status == 1
    assert sentence in outcome.err
    assert path.name in outcome.err


def streamed_flac(n_samples: int, claimed: int) -> bytes:
    """Return noise as FLAC whose header claims another number of samples; 0: unknown, of what is written to a pipe."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).uniform(-0.5, 0.5, n_samples), 16000, format="FLAC")
    content = bytearray(buffer.getvalue())
    content[21:26] = (content[21] >> 4 << 36 | claimed).to_bytes(5, "big")  # 36 bits of the STREAMINFO block
    return bytes(content)


def test_streamed_flac_gives_the_same_features(load_frames, tmp_path):
    clip = tmp_path / "section_00_source_train_normal_0000_spd_1.wav"
    frames = {}
    for claimed in (2_000_000, 0):
        clip.write_bytes(streamed_flac(2_000_000, claimed))  # more than one block
        frames[claimed] = load_frames(tmp_path)
    np.testing.assert_array_equal(frames[0], frames[2_000_000])


@pytest.mark.parametrize("claimed", [8001, 2**31, 2**33, 2**36 - 1])
def test_flac_that_claims_more_than_there_is_is_reported(load_frames, tmp_path, claimed):
    clip = tmp_path / "section_00_source_train_normal_0000_spd_1.wav"
    clip.write_bytes(streamed_flac(8000, claimed))
    with pytest.raises(files.InputError, match=f"{clip} (claims {claimed} samples|cannot be read as audio)"):
        load_frames(tmp_path)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "FLAC"])
def test_no_bit_of_a_header_changes_the_samples_silently(tmp_path, kind):
    samples, buffer, path = np.random.default_rng(0).uniform(-0.5, 0.5, 8000), io.BytesIO(), tmp_path / "clip.wav"
    soundfile.write(buffer, samples, 16000, format=kind, subtype="PCM_16")
    whole = buffer.getvalue()
    path.write_bytes(whole)
    header, expected = read_header(path), read_samples(path)[0]
    n_refused = 0
    for bit in range(8 * (42 if kind == "FLAC" else len(whole) - 16000)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            found = read_header(path)
            if (found.sampling_rate, found.channels) == (16000, 1):
                np.testing.assert_array_equal(read_samples(path)[0], expected)
                assert replace(found, surplus=0) == header, bit
        except files.InputError:
            n_refused += 1
    assert n_refused > 100


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF"])
def test_a_clip_longer_than_its_header_says_is_reported(load_frames, tmp_path, capsys, kind):
    samples, buffer = np.random.default_rng(0).uniform(-0.5, 0.5, 8000), io.BytesIO()
    soundfile.write(buffer, samples, 16000, format=kind, subtype="PCM_16")
    content = buffer.getvalue()
    clip = tmp_path / "section_00_source_train_normal_0000_spd_1.wav"
    clip.write_bytes(content)
    load_frames(tmp_path)
    assert "warning" not in capsys.readouterr().out
    clip.write_bytes(content[:-15990] + b"\1\0\3" + content[-15990:])
    load_frames(tmp_path)
    assert f"warning: the file is longer than its header says for 1 of 1 clips, {clip} for" in capsys.readouterr().out


@pytest.fixture
def load_frames(tmp_path):
    """Load the frames of a folder's training clips."""

    def load(folder: Path) -> np.ndarray:
        front_end = make_front_end(make_settings())
        features = load_features(list_clips(folder)[0], front_end, 1, tmp_path / "cache", True)
        return np.array(features.frames)

    return load


def test_odd_names_links_and_folders_work(call_train, workplace, options):
    folder = machine_folder(workplace / "data") / "train"
    for path, suffix in zip(sorted(folder.iterdir()), [" a b", "'q'", '"d"', "é日本", "--help", "a,b"], strict=False):
        path.rename(path.with_name(f"{path.stem}_{suffix}.wav"))
    first = sorted(folder.iterdir())[0]
    shutil.move(first, workplace / "elsewhere.wav")
    first.symlink_to(workplace / "elsewhere.wav")
    (workplace / "data").rename(workplace / "-the data")
    (workplace / "data").symlink_to(workplace / "-the data")
    test = machine_folder(workplace / "data") / "test"
    anomalous = next(test.glob("*anomaly*"))
    anomalous.rename(anomalous.with_name(anomalous.stem + '_a,b "c".wav'))
    assert call_train(*options).status == 0
    scores = next((workplace / "results").rglob("anomaly_score*")).read_text()
    assert '_a,b ""c"".wav",' in scores


def test_a_name_with_a_line_break_is_reported(call_train, workplace, options):
    path = next((machine_folder(workplace / "data") / "test").iterdir())
    path.rename(path.with_name(path.stem + "_a\nb.wav"))
    outcome = call_train(*options, "--test_only")
    assert outcome.status == 1
    assert "has a name with a control character such as a line break" in outcome.err


# --- surroundings -----------------------------------------------------------------------------------------------------


def test_an_output_that_nobody_reads_ends_the_run_with_the_reason(workplace, options):
    words = [str(word) for word in [sys.executable, REPOSITORY / "train.py", *options]]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert process.returncode == 1
    assert process.stderr == (
        "error: nobody reads the output; nothing is half-written; run the same command again to start over\n"
    )


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "nobody reads the output"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write the output: No space left on device"),
    ],
)
def test_an_output_that_fails_during_the_epochs_costs_none_of_them(
    call_train, workplace, options, monkeypatch, error, cause
):
    def write(text, **_):
        if text.startswith("epoch   3/"):
            raise error

    words = [*options, "--train_only", "--checkpoint_interval", "100"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "print", write, raising=False)
        outcome = call_train(*words, "--epochs", "100")
    assert outcome.status == 1
    resumes = "3 of 100 epochs are saved; the same command with --restart resumes there"
    assert outcome.err == f"error: {cause}; {resumes}\n"
    assert "3 of 3 epochs are done" in call_train(*words, "--epochs", "3", "--restart").out


def test_closed_streams_neither_end_a_command_nor_lead_into_its_files(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from tools.runtime.process import exit_now, run_command\n"
        "def work():\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        print('output'), print('error', file=sys.stderr), sys.stdin.read()\n"
        "        file.write('content')\n"
        "exit_now(run_command(work))\n"
    )
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        file = tmp_path / closed
        words = ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-c", code, file]
        assert subprocess.run(words, check=False, stdin=subprocess.DEVNULL).returncode == 0
        assert file.read_text() == "content"


def test_characters_that_the_locale_lacks_are_escaped(monkeypatch):
    for encoding, expected in (("ascii", b"0.5 \\xb1 0.1\n"), ("utf-8", "0.5 ± 0.1\n".encode())):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert run_command(lambda: print("0.5 ± 0.1", flush=True)) == 0
        assert written.getvalue() == expected


def test_without_a_home_libraries_keep_their_caches_in_a_private_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    for name in ("XDG_CACHE_HOME", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(lambda: None) == 0
    folder = Path(os.environ["XDG_CACHE_HOME"])
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("XDG_CACHE_HOME")
    folder.rename(tmp_path / "another's")
    folder.symlink_to(tmp_path / "another's")  # numba's caches are run: nobody else may choose the folder
    assert run_command(lambda: None) == 0
    assert "XDG_CACHE_HOME" not in os.environ


def test_a_signal_during_an_import_waits_for_its_end(monkeypatch, tmp_path):
    """Libraries swallow what is raised while they are imported."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "swallowing_library.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.1)\n"
        "except BaseException:\n"
        "    pass\n"
        "is_whole = True\n"
    )

    def work():
        import swallowing_library

        assert swallowing_library.is_whole
        time.sleep(60)

    assert run_command(work) in (128 + 15, 128 + 2)
    assert sys.modules.pop("swallowing_library").is_whole


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "there is not enough memory (none is left); free some"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "there is not enough memory (Default"),
        (RuntimeError("can't start new thread"), "there is not enough memory (can't start new thread)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory ([Errno 12]"),
        (ImportError("libtorch.so: failed to map segment"), "a library cannot be loaded (libtorch.so: failed to map"),
        (ModuleNotFoundError(name="scipy"), "has no package scipy; "),
        (OSError(errno.EMFILE, "Too many open files", "file"), "Too many open files: file"),
        (PermissionError(errno.EACCES, "Permission denied", "file"), "Permission denied: file"),
    ],
)
def test_what_the_system_lacks_is_one_sentence(capsys, error, sentence):
    def work():
        raise error

    assert run_command(work) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert sentence in line
    assert "unexpected" not in line


def test_a_picture_that_cannot_be_drawn_costs_no_result(call_train, workplace, options, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no fonts")

    with monkeypatch.context() as patch:
        for name in ("draw_losses", "draw_scores"):
            patch.setattr(f"tools.results.plots.{name}", fail)
        outcome = call_train(*options)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("the picture is blank: ValueError: no fonts") == 2
    assert network_path(workplace).is_file()
    assert list(workplace.rglob("anomaly_score*.csv"))
    for path in workplace.rglob("*.png"):
        assert matplotlib.image.imread(path).shape == (1, 1, 4)


def test_parameters_that_take_all_memory_are_reported(call_train, options):
    outcome = call_train(*options, "--n_mels", 2**31 - 1)
    assert outcome.status == 1
    assert "error: there is not enough memory (Unable to allocate 4.01 TiB" in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space there or name another directory"),
        (errno.EDQUOT, "free space there or name another directory"),
        (errno.EROFS, "name another directory"),
        (errno.EACCES, "name another directory"),
        (errno.EMFILE, "allow more open files (ulimit -n)"),
    ],
)
def test_a_failed_write_says_why_and_what_helps(tmp_path, monkeypatch, number, advice):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tools.runtime.files.os.open", refuse)
    with pytest.raises(files.InputError) as caught, files.atomic_write(tmp_path / "file"):
        pass
    assert str(caught.value) == f"cannot write {tmp_path / 'file'}: {os.strerror(number)}; {advice}"


def test_what_cannot_be_read_is_not_called_damaged(call_train, workplace, options, monkeypatch):
    """As with too many open files."""
    assert call_train(*options, "--train_only").status == 0
    (array,) = (machine_folder(workplace / "data").parents[1] / "processed/fan").glob("*.npy")
    clip = min((machine_folder(workplace / "data") / "train").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for read, path in (
        (load_tensors, network_path(workplace)),
        (load_tensors, checkpoint_path(workplace)),
        (read_samples, clip),
    ):
        read(path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(
                files.InputError, match=rf"cannot read {path}|{path} cannot be read: Too many open files; "
            ):
                read(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def refuse(_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("datasets.cache.sha256_of", refuse)
    outcome = call_train(*options, "--train_only")
    assert (outcome.status, "damaged" in outcome.out) == (1, False)
    assert f"error: cannot read {array}: Too many open files; " in outcome.err


def test_every_line_of_what_happens_if_is_protected_by_tests_that_exist():
    section = (REPOSITORY / "tools/README.md").read_text().partition("## What happens if ...")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (?!\.\.\.)(.+) \| .+ \| (.+) \|$", section, re.MULTILINE)
    assert len(lines) > 20
    for event, tests in lines:
        for module, names in re.findall(r"(\w+): ((?:`\w+`(?:, )?)+)", tests):
            source = (REPOSITORY / f"tests/test_{module}.py").read_text()
            for name in re.findall(r"\w+", names):
                assert f"\ndef test_{name}(" in source, f"{event}: test_{module}.py has no test_{name}"
        assert "`" in tests, event
