"""The suites: one module per question; see docs/suites.md."""
