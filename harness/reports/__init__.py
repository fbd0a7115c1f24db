"""Verdicts as text: failure messages, the closing table, records shown again."""
