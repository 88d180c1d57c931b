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
VALUES = {"--data": "synthetic", "--out": None, "--profile": "", "--threads": "1"}
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
        parser.add_argument(name, default=default)
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    parser.add_argument("--mechanism", action="append", default=[])
    options = parser.parse_args(arguments)
    if not re.fullmatch("[1-9][0-9]*", options.threads):
        refuse(f"--threads {options.threads}: give a whole number, at least 1")
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
        what = options.out or options.data
        refuse(f"{what}: cannot name a report; give --out NAME of Latin letters, digits, dots, dashes and underscores")
    options.profile = options.profile and cluster_profile(options.profile, caller)
    options.mechanisms = [mechanism(given, caller) for given in options.mechanism]
    return options


def mechanism(given, folder):
    """The name of a class with its place made absolute: that of a file, or of a module that the folder may hold."""
    place, _, called = given.rpartition(":")
    path = Path(folder, place).resolve()
    if not (place and called.isidentifier()):
        refuse(f"--mechanism {given}: give package.module:Class or folder/file.py:Class")
    if place.endswith(".py") and not path.is_file():
        refuse(f"--mechanism {given}: no such file: {path}")
    return f"{path}:{called}"


def cluster_profile(given, caller):
    """The folder of a profile: one of the study's own, or the user's."""
    own = HERE / "profiles"
    folder = own / given if (own / given).is_dir() else Path(caller, given).resolve()
    if not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.name for path in own.iterdir()))
        refuse(f"{given}: no such profile; known: {known}, or a folder with a config.yaml")
    return str(folder)


def noted(record):
    """What a finished step has noted of itself."""
    return json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}


def variables(options):
    """What the steps read. Refuses to overwrite a report of other data, and to verify what is not there."""
    report = HERE.parent / "reports" / options.out
    made_from = noted(report / "data.json").get("source", options.data)
    chosen = {"DATA": options.data, "NAME": options.out, "THREADS": options.threads, "FRESH": "yes" * options.fresh}
    chosen |= {"CLUSTER": "yes" * bool(options.profile), "MECHANISMS": json.dumps(options.mechanisms)}
    chosen["PROFILE"] = "full" if options.full else "quick" if options.quick else "default"
    if made_from != options.data and not (options.named or options.check):
        refuse(f"reports/{options.out} was made from {made_from}; give --out NAME or remove that report")
    if options.verify:
        chosen["PROFILE"] = noted(report / "parameters.json").get("profile")
        if chosen["PROFILE"] is None or made_from != options.data:
            refuse(f"reports/{options.out}: no finished report of {options.data} to verify")
        chosen["NAME"] += "-verify"
        chosen["KEPT"] = str(HERE.parent / "data" / "verify" / chosen["NAME"])  # caches of its own
    return {f"STUDY_{name}": value for name, value in chosen.items()}


def main():
    """Print what run_all.sh has to know, as shell code; of --help the text."""
    # A colon ends a folder in PATH; the others have a meaning in the first lines of commands that pip installs.
    if set(str(HERE.parent)) & set(':"\\$`\n'):
        refuse(f'{HERE.parent}: the study cannot live in a folder with one of : " \\ $ ` in its path')
    options = parse(sys.argv[2:], sys.argv[1])
    words = {"cluster": options.profile, "verify": options.verify and f"reports/{options.out}"}
    words |= {"check": options.check, "setup": options.setup, "dry_run": options.dry_run}
    told = [f"{name}={shlex.quote(str(value or ''))}" for name, value in words.items()]
    told += [f"export {name}={shlex.quote(value)}" for name, value in variables(options).items()]
    sys.stdout.buffer.write(os.fsencode("\n".join(told) + "\n"))


if __name__ == "__main__":
    main()
