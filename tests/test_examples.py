"""The examples, from clips to 03's table through the scripts."""

import shutil

from synthetic import REPOSITORY, directories, machine_folder, script, write_machine, written

import train

EXTENSIONS = [word for path in sorted((REPOSITORY / "examples").glob("*.py")) for word in ("--extension", str(path))]
VARIANT = ["--model", "VAE", "--front_end", "PCEN"]
SMALL = ["--epochs", "2", "--batch_size", "16"]


def test_the_examples_run_from_clips_to_the_tables_and_jobs_write_the_files_of_single_calls(
    tmp_path, demo, call_command
):
    jobs, single = tmp_path / "jobs", tmp_path / "single"
    for i, machine_type in enumerate(("fan", "valve")):
        write_machine(machine_folder(jobs / "data", machine_type), n_train=6 + i)
    shutil.copytree(jobs / "data", single / "data")
    words = ["-d", "fan", "valve", "-j", "2", *EXTENSIONS, *VARIANT, *directories(jobs)]
    assert script("01_train.sh", *words, *SMALL).returncode == 0
    assert script("tools/02_test.sh", *words, "--score", "KNN").returncode == 0
    for machine_type in ("fan", "valve"):
        words = ["--dataset", f"DCASE2023T2{machine_type}", "-d", "-tag", "id(0_)", "--use_ids", "0", *SMALL]
        options = [*EXTENSIONS, *VARIANT, *directories(single)]
        assert call_command(train.main, *words, "--score", "KNN", *options).status == 0
    ours, expected = (written(root, "results/dev_data/*_KNN/*.csv") for root in (jobs, single))
    assert len(ours) == 2 * (3 + 4)  # scores, decisions, metrics; network, thresholds, KNN's tensors, log
    assert ours == expected

    shutil.copytree(demo.folder / "models", jobs / "models", dirs_exist_ok=True)  # a new score of a trained network
    options = [*EXTENSIONS, *directories(jobs), "--dataset_directory", demo.folder / "data"]
    assert script("tools/02_test.sh", "-d", "fan", *options, "--score", "KNN").returncode == 0
    process = script("03_summarize_results.sh", "DCASE2023T2", "-d", *EXTENSIONS, *directories(jobs))
    assert process.returncode == 0, process.stderr
    extract = next(jobs.rglob("DCASE2023T2_auc_pauc_extract.csv")).read_text()
    systems = list(dict.fromkeys(line.partition(",")[0] for line in extract.splitlines()[1:]))
    assert all(system in process.stdout for system in systems)
    assert systems == ["baseline_KNN", "baseline_VAE_PCEN_KNN"]
