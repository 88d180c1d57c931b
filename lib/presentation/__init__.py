"""What readers see: result rows, figures, words, and pages as self-contained HTML."""
