"""Beam jobs, one file each; what they do stands in `pipelines.transforms`."""

import logging

# Importing Beam says this on the root logger, in every worker, whoever has no use for BigQuery.
logging.getLogger().addFilter(
    lambda record: not record.getMessage().startswith("apitools not found")
)
