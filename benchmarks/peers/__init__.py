"""Optimizers of other projects, each driven by one small file, with the tasks and the proposer that all share."""
