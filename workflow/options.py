"""Options of run_all.sh, read by the system's Python before there is an environment; wrong ones are refused."""

import argparse
import os
import re
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
GENERATED = ("synthetic", "sberbank")
VALUES = {"--data": "synthetic", "--out": None, "--profile": "", "--threads": "1"}
SWITCHES = ("--quick", "--full", "--fresh", "--dry-run", "--verify", "--check", "--setup", "--help")


def refuse(why):
    """One line and status 2."""
    print(f"error: {why}", file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    """Refuses in one line."""

    def error(self, message):
        refuse(re.sub("argument (.*): expected one argument", r"\1 needs a value; see ./run_all.sh --help", message))


def parse(arguments, caller):
    """The options, paths made absolute from the caller's folder; `named` where the report's name was given."""
    parser = Parser(add_help=False, allow_abbrev=False)
    for name, default in VALUES.items():
        parser.add_argument(name, default=default)
    for name in SWITCHES:
        parser.add_argument(name, action="store_true")
    parser.add_argument("--mechanism", action="append", default=[])
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        refuse(f"unknown option {unknown[0]}; see ./run_all.sh --help")
    if "" in (options.data, options.out, options.threads):
        refuse("an option has an empty value; see ./run_all.sh --help")
    options.size = "full" if options.full else "quick" if options.quick else "default"
    if options.check and options.data in GENERATED:
        refuse("--check needs --data DIR")
    if not re.fullmatch("[1-9][0-9]*", options.threads):
        refuse(f"--threads {options.threads}: give a whole number, at least 1")
    if options.data not in GENERATED:
        options.data = events_folder(Path(caller, options.data).resolve())
    options.named = options.out or ("quick" if options.verify and options.data == "synthetic" else None)
    short = re.sub("[^A-Za-z0-9._-]+", "_", os.path.basename(options.data))
    options.out = options.named or re.sub("^[^A-Za-z0-9]+", "", short)
    if not options.check and not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", options.out):
        what = options.out or options.data
        refuse(f"{what}: cannot name a report; give --out NAME of Latin letters, digits, dots, dashes and underscores")
    options.profile = options.profile and cluster_profile(options.profile, caller)
    options.mechanisms = [mechanism(given, caller) for given in options.mechanism]
    return options


def mechanism(given, folder):
    """The name of a class with its place made absolute: that of a file, or of a module that the folder may hold."""
    place, _, called = given.rpartition(":")
    if not (place and called.isidentifier()):
        refuse(f"--mechanism {given}: give package.module:Class or folder/file.py:Class")
    path = Path(folder, place).resolve()
    if place.endswith(".py") and not path.is_file():
        refuse(f"--mechanism {given}: no such file: {path}")
    return f"{path}:{called}"


def events_folder(folder):
    """The folder as text, if it may hold events."""
    if not folder.is_dir():
        refuse(f"{folder}: no such folder; give --data synthetic, sberbank or a folder")
    if not any((folder / name).is_file() for name in ("dataset.yaml", "transactions.csv", "transactions.csv.gz")):
        refuse(f"{folder}: no transactions.csv or transactions.csv.gz, and no dataset.yaml that names other files")
    return str(folder)


def cluster_profile(given, caller):
    """The folder of a profile: one of the study's own, or the user's."""
    own = HERE / "profiles"
    folder = own / given if (own / given).is_dir() else Path(caller, given).resolve()
    if not (folder / "config.yaml").is_file():
        known = ", ".join(sorted(path.name for path in own.iterdir()))
        refuse(f"{given}: no such profile; known: {known}, or a folder with a config.yaml")
    return str(folder)


def main():
    """What run_all.sh has to know, as shell code; of --help the text."""
    # A colon ends a folder in PATH; the others have a meaning in the first lines of commands that pip installs.
    if set(str(HERE.parent)) & set(':"\\$`\n'):
        refuse(f'{HERE.parent}: the study cannot live in a folder with one of : " \\ $ ` in its path')
    options = parse(sys.argv[2:], sys.argv[1])
    words = {"cluster": options.profile, "check": options.check or "", "setup": options.setup or ""}
    told = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in words.items())
    usage = HERE.joinpath("usage.txt").read_text(encoding="utf-8")
    sys.stdout.buffer.write(os.fsencode(usage if options.help else f"{told}\n"))


if __name__ == "__main__":
    main()
