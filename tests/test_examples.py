"""The examples, from clips to 03's table through the scripts."""

import shutil

from synthetic import REPOSITORY, directories, machine_folder, script, write_machine, written

from tools.results import __main__ as summarize_results

EXTENSIONS = [word for path in sorted((REPOSITORY / "examples").glob("*.py")) for word in ("--extension", str(path))]
VARIANT = ["--model", "VAE", "--front_end", "PCEN"]
SMALL = ["--epochs", "2", "--batch_size", "16"]


def test_the_examples_run_from_clips_to_the_tables_and_jobs_write_the_files_of_single_calls(
    tmp_path, demo, call_train, call_command, no_pictures
):
    jobs, single = tmp_path / "jobs", tmp_path / "single"
    for machine_type in ("fan", "valve"):
        write_machine(machine_folder(jobs / "data", machine_type))
    words = ["-d", "fan", "valve", "-j", "2", *EXTENSIONS, *VARIANT, *directories(jobs)]
    assert script("01_train.sh", *words, *SMALL).returncode == 0
    assert script("tools/02_test.sh", *words, "--score", "KNN").returncode == 0
    shutil.copytree(machine_folder(jobs / "data"), machine_folder(single / "data"))
    fan = ["--dataset", "DCASE2023T2fan", "-d", "-tag", "id(0_)", "--use_ids", "0", *EXTENSIONS, "--score", "KNN"]
    assert call_train(*fan, *VARIANT, *SMALL, *directories(single)).status == 0
    ours, expected = (written(root, "results/dev_data/*_KNN/*.csv") for root in (jobs, single))
    assert len(ours) == 2 * len(expected) == 2 * (3 + 4)  # scores, decisions, metrics; network, record, tensors, log
    assert expected.items() <= ours.items()

    shutil.copytree(demo.folder / "models", jobs / "models", dirs_exist_ok=True)  # a new score of a trained network
    options = [*directories(jobs), "--dataset_directory", demo.folder / "data"]
    assert call_train(*fan, *options, "--test_only").status == 0
    outcome = call_command(summarize_results.main, "DCASE2023T2", "-d", *EXTENSIONS, *directories(jobs))
    assert outcome.status == 0, outcome.err
    extract = next(jobs.rglob("DCASE2023T2_auc_pauc_extract.csv")).read_text()
    systems = list(dict.fromkeys(line.partition(",")[0] for line in extract.splitlines()[1:]))
    assert systems == ["baseline_KNN", "baseline_VAE_PCEN_KNN"]
    assert all(system in outcome.out for system in systems)
