# The study as a graph: data -> trainings (variant x repeat x fold) -> notebooks -> pages -> index.
# run_all.sh chooses data, report and profile through the environment; STUDY_FRESH=yes there ignores caches.
# Paths of data and other text that may hold braces are given as functions: Snakemake would take braces for wildcards.
import hashlib
import json
import os
import shlex
from pathlib import Path

import yaml

from lib.dependencies import modules, relative
from lib.data.description import describe
from lib.storage import checksum
from workflow.execute import check_parameters, default_parameters

SOURCE, STUDY = (os.environ.get(name, "synthetic") for name in ("STUDY_DATA", "STUDY_NAME"))
PROFILE, THREADS = os.environ.get("STUDY_PROFILE", "default"), int(os.environ.get("STUDY_THREADS", "1"))
parameters = yaml.safe_load(Path("study.yaml").read_text())[PROFILE]
SHARED = {key: parameters[key] for key in ("customers", "folds", "repeats", "epochs", "controls", "control_repeats")}
SHARED |= {"study": STUDY, "source": SOURCE}
ALONE = ["03_continuous_memory", "07_speed_and_memory", "08_comparison", "09_tasks"]
MECHANISMS = {"04_train_softmax": "softmax", "05_train_performer": "performer", "06_train_infinite_former": "infinite_former"}
COMPARED = [f"{name}{kind}" for kind in ("", "_plain") for name in (*MECHANISMS.values(), "mean_pooling")]
NOTEBOOKS = sorted(path.stem for path in Path("notebooks").glob("[0-9]*.ipynb"))
OUT = f"reports/{STUDY}"
FILES = [] if SOURCE in ("synthetic", "sberbank") else describe(Path(SOURCE)).files(Path(SOURCE))
KEPT = [str(path) for path in sorted(Path("data/measurements").glob("*/*")) if path.parent.name != "local"]
FACTS = [str(path) for path in sorted(Path("data/facts").iterdir())]
TRIED = [str(path) for path in sorted(Path("data/tuning").glob("*.csv"))]


def code(source):
    """Modules that a step rests on: when one changes, the step runs again."""
    return relative(modules(Path(source)))


def content(*files):
    """Digest of files: a change counts even where its date is older than what was made before it."""
    return checksum(map(Path, files))


def cells(name):
    """The cells of a notebook."""
    return json.loads(Path(f"notebooks/{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def source(name):
    """Digest of a notebook's source: outputs, as when it was run by hand, do not run its step again."""
    kept = [[c.get("id"), c["cell_type"], c["metadata"].get("tags", []), "".join(c["source"])] for c in cells(name)]
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def training(variant, repeats=SHARED["repeats"]):
    return [f"{OUT}/runs/{variant}-{repeat}-{fold}.json" for repeat in range(repeats) for fold in range(SHARED["folds"])]


def inputs(name):
    """What a notebook reads besides its own code and the data."""
    if name in MECHANISMS:
        return training(MECHANISMS[name])
    return {
        "02_kernel_error": training("softmax"),
        "03_continuous_memory": training("infinite_former"),
        "07_speed_and_memory": KEPT,
        "08_comparison": [path for name in COMPARED for path in training(name)]
        + [path for name in SHARED["controls"] for path in training(name, SHARED["control_repeats"])] + TRIED,
    }.get(name, [])


def values(name):
    """Parameters of a notebook: its own, and those of the shared ones that it declares."""
    cell = next("".join(c["source"]) for c in cells(name) if "parameters" in c["metadata"].get("tags", []))
    declared, own = default_parameters(cell), parameters["notebooks"].get(name, {})
    try:
        check_parameters(own, declared)
    except ValueError as error:
        raise WorkflowError(f"study.yaml, {PROFILE}, {name}: {error}") from error
    shared = {key: value for key, value in (SHARED | {"try_it": False}).items() if key in declared}
    return json.dumps(shared | own, sort_keys=True)


# Every step holds a lock that the next run waits for: steps outlive a workflow that is killed.
# Opened for reading too, without which NFS gives no shared lock.
# Threads are the study's: Snakemake would set them to the cores of the step, on which results must not depend.
LIBRARIES = " ".join(f"{name}_NUM_THREADS={THREADS}" for name in ("OMP", "OPENBLAS", "MKL"))
# A progress bar would leave one output for every refresh in a notebook; the framework's profiler would report itself.
QUIET = "TQDM_DISABLE=1 KINETO_LOG_LEVEL=99"
shell.prefix(f"exec 8<>.steps; flock --shared 8; export {LIBRARIES} {QUIET}; ")


# On a cluster, what takes seconds is no job of its own (where the executor is the local one, this changes nothing).
localrules: all, pages


# `local`: written in its place even where a storage plugin holds the files.
rule all:
    input: local(f"{OUT}/index.html")


rule data:
    input: FACTS, "study/sources.py", code("study/sources.py")
    output: f"{OUT}/data.json"
    benchmark: f"{OUT}/durations/data.tsv"
    params:
        source=lambda _: shlex.quote(SOURCE), customers=SHARED["customers"], folds=SHARED["folds"],
        content=content(*FACTS, "study/sources.py", *code("study/sources.py")),
        # Not inputs, because names of inputs cannot hold braces: another size or date runs the step again all the same.
        files=lambda _: [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in FILES]
    shell:
        "python -m workflow.step {output} study.sources {params.source} --customers {params.customers} --folds {params.folds} ${{STUDY_FRESH:+--fresh}} --out {output}"


rule train:
    input: f"{OUT}/data.json", "study/train.py", code("study/train.py")
    output: f"{OUT}/runs/{{variant}}-{{repeat}}-{{fold}}.json"
    benchmark: f"{OUT}/durations/train-{{variant}}-{{repeat}}-{{fold}}.tsv"
    threads: THREADS
    params:
        source=lambda _: shlex.quote(SOURCE), customers=SHARED["customers"], folds=SHARED["folds"], epochs=SHARED["epochs"],
        content=content("study/train.py", *code("study/train.py"))
    shell:
        "python -m workflow.step {output} study.train {wildcards.variant} --repeat {wildcards.repeat} --fold {wildcards.fold} --source {params.source}"
        " --customers {params.customers} --folds {params.folds} --epochs {params.epochs} ${{STUDY_FRESH:+--fresh}} --out {output}"


for name in NOTEBOOKS:
    rule:
        name: f"notebook_{name}"
        input: f"{OUT}/data.json", inputs(name), ancient(f"notebooks/{name}.ipynb"), code(f"notebooks/{name}.ipynb"), "workflow/execute.py", "study/study.mplstyle"
        output: f"{OUT}/notebooks/{name}.ipynb"
        benchmark: f"{OUT}/durations/{name}.tsv"
        params:
            values=lambda _, name=name: shlex.quote(values(name)), notebook=f"notebooks/{name}.ipynb",
            source=source(name), content=content(*code(f"notebooks/{name}.ipynb"), "workflow/execute.py",
                *(path for path in inputs(name) if not path.startswith(OUT)))
        # Measurements run alone: on all cores here; the profile of a cluster says how there.
        threads: os.cpu_count() if name in ALONE else THREADS
        shell: "python -m workflow.step {output} workflow.execute {params.notebook} {output} {params.values}"


MAKERS = [Path("workflow", f"{name}.py") for name in ("frame", "front_page", "pages", "text")]
PAGES = [str(path) for path in [*MAKERS, *sorted(Path("workflow/templates").iterdir())]]
PAGES += sorted({path for maker in MAKERS for path in code(maker)})


# One process makes them all in seconds. Pages lie where they are made, even where a storage plugin holds the files.
rule pages:
    input: [f"{OUT}/notebooks/{name}.ipynb" for name in NOTEBOOKS], PAGES
    output: local(f"{OUT}/index.html"), local([f"{OUT}/{name}.html" for name in NOTEBOOKS])
    params:
        study=STUDY, content=content(*PAGES),
        parameters=lambda _: shlex.quote(json.dumps({"profile": PROFILE, **SHARED, "source": Path(SOURCE).name, **parameters}, sort_keys=True))
    shell:
        "python -m workflow.step {output[0]} workflow.pages report {params.study} --parameters {params.parameters}"
