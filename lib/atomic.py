"""Files that appear complete or not at all: written under a temporary name beside their place, then renamed."""

import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Make or replace a file; a reader sees the old one or the new one, and a failure leaves nothing behind."""
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of text in UTF-8, with its line ends as they are."""
    write_bytes(path, text.encode())
