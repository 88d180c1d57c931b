"""Every place of the study, anchored at the repository root."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
FACTS = DATA / "facts"
RAW = DATA / "raw"
KEPT = Path(os.environ.get("STUDY_KEPT", DATA))  # what a run keeps for the next one; a verification keeps its own
PROCESSED = KEPT / "processed"
RUNS = KEPT / "runs"
MEASUREMENTS = KEPT / "measurements"
NOTEBOOKS = ROOT / "notebooks"
REPORTS = ROOT / "reports"
