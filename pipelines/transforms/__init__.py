"""The steps of the Beam jobs, each testable without a pipeline."""
