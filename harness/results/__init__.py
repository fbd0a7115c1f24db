"""Run records: what a run declared, selected and judged."""
