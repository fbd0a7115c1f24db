"""Programs that the tests of runtimes run in other processes; each is imported by its own name."""
