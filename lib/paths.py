"""Every place of the study, anchored at the repository root."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
FACTS = DATA / "facts"
RAW = DATA / "raw"
PROCESSED = DATA / "processed"
RUNS = DATA / "runs"
MEASUREMENTS = DATA / "measurements"
NOTEBOOKS = ROOT / "notebooks"
REPORTS = ROOT / "reports"
