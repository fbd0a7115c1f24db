"""Tests of the search for where an error begins."""
