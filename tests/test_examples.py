"""The examples, from clips to 03's table through the scripts."""

import shutil

from synthetic import EXTENSIONS, directories, machine_folder, script, succeed, write_machine, written

SMALL = ["--epochs=2", "--batch_size=16"]


def test_the_examples_run_from_clips_to_the_tables_and_jobs_write_the_files_of_single_calls(
    tmp_path, succeeds, summarize, table
):
    for machine_type in ("fan", "valve"):
        write_machine(machine_folder(tmp_path / "data", machine_type))
    single = tmp_path / "single"
    shutil.copytree(tmp_path / "data", single / "data")
    variant = [*EXTENSIONS, "--model=VAE", "--front_end=PCEN"]
    process = script("01_train.sh", "-d", "fan", "valve", "-j2", *variant, *SMALL, *directories(tmp_path))
    assert process.returncode == 0, process.stderr

    def call(machine_type, root, *words):
        run = [f"--dataset=DCASE2023T2{machine_type}", "-d", "-tag", "id(0_)", "--use_ids=0", *directories(root)]
        succeeds(*run, *words)

    for machine_type in ("fan", "valve"):
        call(machine_type, tmp_path, *variant, "--score=KNN", "--test_only")
    call("fan", single, *variant, "--score=KNN", *SMALL)
    ours, expected = (written(root, "results/dev_data/*_KNN/*.csv") for root in (tmp_path, single))
    assert len(ours) == 2 * len(expected) == 2 * (3 + 4)  # scores, decisions, metrics; network, record, tensors, log
    assert expected.items() <= ours.items()

    waveforms = ["--model=WAVE-AE", "--front_end=WAVEFORM", "--frames=8", "--score=WAVE-MSE"]
    call("fan", tmp_path, *EXTENSIONS, *waveforms, *SMALL)
    call("fan", tmp_path, *EXTENSIONS, "--score=SPECTRUM-KNN", "--test_only")
    out = succeed(summarize(*EXTENSIONS))
    systems = ["baseline_SPECTRUM-KNN", "baseline_VAE_PCEN_KNN", "baseline_WAVE-AE_WAVEFORM_WAVE-MSE"]
    assert list(table("auc_pauc_extract").index.unique()) == systems
    assert all(system in out for system in systems)
