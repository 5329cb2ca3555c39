"""The examples, from clips to 03's table through the scripts."""

import shutil

from synthetic import REPOSITORY, directories, machine_folder, script, write_machine, written

from tools.results import __main__ as summarize_results

EXTENSIONS = [word for path in sorted((REPOSITORY / "examples").glob("*.py")) for word in ("--extension", str(path))]
VARIANT = ["--model", "VAE", "--front_end", "PCEN"]
TEST = ["-d", "-tag", "id(0_)", "--use_ids", "0"]
WAVE = ["--model", "WAVE-AE", "--front_end", "WAVEFORM", "--frames", "8"]
SMALL = ["--epochs", "2", "--batch_size", "16"]


def test_the_examples_run_from_clips_to_the_tables_and_jobs_write_the_files_of_single_calls(
    tmp_path, demo, call_train, call_command, no_pictures
):
    jobs, single = tmp_path / "jobs", tmp_path / "single"
    for machine_type in ("fan", "valve"):
        write_machine(machine_folder(jobs / "data", machine_type))
    words = ["-d", "fan", "valve", "-j", "2", *EXTENSIONS, *VARIANT, *directories(jobs), *SMALL]
    process = script("01_train.sh", *words)
    assert process.returncode == 0, process.stderr
    shutil.copytree(machine_folder(jobs / "data"), machine_folder(single / "data"))
    fan, valve = (
        ["--dataset", f"DCASE2023T2{name}", *TEST, *EXTENSIONS, "--score", "KNN"] for name in ("fan", "valve")
    )
    for job in (fan, valve):
        assert call_train(*job, *VARIANT, *directories(jobs), "--test_only").status == 0
    assert call_train(*fan, *VARIANT, *SMALL, *directories(single)).status == 0
    ours, expected = (written(root, "results/dev_data/*_KNN/*.csv") for root in (jobs, single))
    assert len(ours) == 2 * len(expected) == 2 * (3 + 4)  # scores, decisions, metrics; network, record, tensors, log
    assert expected.items() <= ours.items()

    shutil.copytree(demo.folder / "models", jobs / "models", dirs_exist_ok=True)  # a new score of a trained network
    options = [*directories(jobs), "--dataset_directory", demo.folder / "data"]
    assert call_train(*fan, *options, "--test_only").status == 0
    wave = [*WAVE, "--score", "WAVE-MSE"]
    for further in (
        [*wave, "--train_only", *SMALL],
        [*wave, "--test_only"],
        ["--score", "SPECTRUM-KNN", "--test_only"],
    ):
        assert call_train(*fan[:-2], *directories(jobs), *further).status == 0
    outcome = call_command(summarize_results.main, "DCASE2023T2", "-d", *EXTENSIONS, *directories(jobs))
    assert outcome.status == 0, outcome.err
    extract = next(jobs.rglob("DCASE2023T2_auc_pauc_extract.csv")).read_text()
    systems = list(dict.fromkeys(line.partition(",")[0] for line in extract.splitlines()[1:]))
    assert systems == [
        *("baseline_SPECTRUM-KNN", "baseline_KNN", "baseline_VAE_PCEN_KNN", "baseline_WAVE-AE_WAVEFORM_WAVE-MSE")
    ]
    assert all(system in outcome.out for system in systems)
