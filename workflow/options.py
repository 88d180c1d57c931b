"""Options of run_all.sh, read by the system's Python before there is an environment; wrong ones are refused."""

import argparse
import json
import os
import re
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GENERATED = ("synthetic", "sberbank")
VALUES = {"--data": "synthetic", "--out": None, "--profile": "", "--threads": 1}
SWITCHES = ("--quick", "--full", "--fresh", "--dry-run", "--verify", "--check", "--setup")


def refuse(why):
    """One line and status 2."""
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Refuses in one line; its help is usage.txt."""

    def error(self, message):
        refuse(f"{message}; see ./run_all.sh --help")

    def format_help(self):
        return HERE.joinpath("usage.txt").read_text(encoding="utf-8")


def parse(arguments, caller):
    """The options, paths made absolute from the caller's folder; `named` where the report's name was given."""
    parser = Parser(allow_abbrev=False)
    for name, default in VALUES.items():
        parser.add_argument(name, default=default, type=type(default or ""))
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    parser.add_argument("--mechanism", action="append", default=[])
    options = parser.parse_args(arguments)
    if options.data not in GENERATED:
        folder = Path(caller, options.data).resolve()
        if not any((folder / name).is_file() for name in ("dataset.yaml", "transactions.csv", "transactions.csv.gz")):
            refuse(f"--data {folder}: no folder with transactions.csv or transactions.csv.gz, nor with a dataset.yaml")
        options.data = str(folder)
    elif options.check:
        refuse("--check needs --data DIR")
    options.named = options.out or ("quick" if options.verify and options.data == "synthetic" else None)
    options.out = options.named or re.sub("[^A-Za-z0-9._-]+", "_", os.path.basename(options.data)).lstrip("._-")
    if not options.check and not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", options.out):
        refuse(f"{options.out or options.data}: cannot name a report; give --out NAME of A-Z, a-z, 0-9, ., _ and -")
    if options.profile:
        places = [HERE / "profiles" / options.profile, Path(caller, options.profile).resolve()]
        found = [str(folder) for folder in places if (folder / "config.yaml").is_file()]
        if not found:
            refuse(f"--profile {options.profile}: give slurm, kubernetes or a folder with a config.yaml")
        options.profile = found[0]
    named = [given.rpartition(":") for given in options.mechanism]
    options.mechanisms = [f"{Path(caller, place).resolve()}:{kind}" for place, _, kind in named]
    return options


def noted(record):
    """What a finished step has noted of itself."""
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}


def variables(options):
    """What the steps read. Refuses to overwrite a report of other data, and to verify what is not there."""
    report, name = HERE.parent / "reports" / options.out, options.out
    size = "full" if options.full else "quick" if options.quick else "default"
    made_from = noted(report / "data.json").get("source", options.data)
    if options.verify:
        size, name = noted(report / "parameters.json").get("profile"), f"{name}-verify"
        if size is None or made_from != options.data:
            refuse(f"reports/{options.out}: no finished report of {options.data} to verify")
        yield "KEPT", str(HERE.parent / "data" / "verify" / name)  # caches of its own
    elif made_from != options.data and not (options.named or options.check):
        refuse(f"reports/{name} was made from {made_from}; give --out NAME or remove that report")
    yield from {"DATA": options.data, "NAME": name, "PROFILE": size, "THREADS": str(options.threads)}.items()
    yield from {"FRESH": "yes" * options.fresh, "CLUSTER": "yes" * bool(options.profile)}.items()
    yield "MECHANISMS", json.dumps(options.mechanisms)


def main():
    """Print what run_all.sh has to know, as shell code; of --help the text."""
    # A colon ends a folder in PATH; the others have a meaning in the first lines of commands that pip installs.
    if set(str(HERE.parent)) & set(':"\\$`\n'):
        refuse(f'{HERE.parent}: the study cannot live in a folder with one of : " \\ $ ` in its path')
    options = parse(sys.argv[2:], sys.argv[1])
    words = {name: "yes" * getattr(options, name) for name in ("check", "setup", "dry_run", "verify")}
    told = [f"{name}={shlex.quote(value)}" for name, value in {"cluster": options.profile, **words}.items()]
    told += [f"export STUDY_{name}={shlex.quote(value)}" for name, value in variables(options)]
    sys.stdout.buffer.write(os.fsencode("\n".join(told) + "\n"))


if __name__ == "__main__":
    main()
