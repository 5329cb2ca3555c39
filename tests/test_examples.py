"""The examples, each from clips to 03's table through the scripts."""

from synthetic import REPOSITORY, directories, machine_folder, script, write_machine, written

EXTENSIONS = [word for path in sorted((REPOSITORY / "examples").glob("*.py")) for word in ("--extension", str(path))]


def test_the_examples_run_from_clips_to_the_tables_with_any_number_of_jobs(tmp_path):
    tables = {}
    for jobs, variants in (("1", [("--model", "VAE")]), ("2", [("--model", "VAE"), ("--front_end", "PCEN"), ()])):
        root = tmp_path / jobs
        for i, machine_type in enumerate(("fan", "valve")):
            write_machine(machine_folder(root / "data", machine_type), n_train=6 + i)
        for variant in variants:
            machine_types = ("fan", "valve") if "VAE" in variant else ("fan",)
            words = ["-d", *machine_types, "-j", jobs, *EXTENSIONS, *directories(root)]
            small = ["--epochs", "2", "--batch_size", "16", *variant]
            assert script("01_train.sh", *words, *small).returncode == 0
            assert script("tools/02_test.sh", *words, *variant, "--score", "KNN").returncode == 0
        tables[jobs] = {path.name: path.read_bytes() for path in root.glob("results/dev_data/baseline_VAE_KNN/*.csv")}
        tables[jobs] |= {name: content for name, content in written(root).items() if "VAE" in name}
    assert len(tables["1"]) == 2 * (3 + 6)  # scores, decisions, metrics; network, thresholds, KNN's tensors, log
    assert tables["1"] == tables["2"]
    process = script("03_summarize_results.sh", "DCASE2023T2", "-d", *EXTENSIONS, *directories(root))
    assert process.returncode == 0, process.stderr
    extract = next(root.rglob("DCASE2023T2_auc_pauc_extract.csv")).read_text()
    systems = list(dict.fromkeys(line.partition(",")[0] for line in extract.splitlines()[1:]))
    assert all(system in process.stdout for system in systems)
    assert systems == ["baseline_KNN", "baseline_PCEN_KNN", "baseline_VAE_KNN"]
