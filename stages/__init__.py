"""Stages by name. The engine imports a stage's module when a pipeline uses it, and never before."""

STAGES = {
    "ingest": "stages.ingest:Ingest",
    "equalize": "stages.equalize:Equalize",
    "sample": "stages.sample:Sample",
    "perturb": "stages.perturb:Perturb",
    "spectrum": "stages.spectrum:Spectrum",
    "train": "stages.train:Train",
    "evaluate": "stages.evaluate:Evaluate",
    "report": "stages.report:Report",
}
