"""From files of labelled events to encoded histories."""
