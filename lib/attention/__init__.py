"""The mechanisms compared, and what they rest on."""
