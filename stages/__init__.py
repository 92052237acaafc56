"""What there is, by name: stages, and the families of generators.

The engine imports a stage's module when a pipeline uses it, and never before. This file is in no code closure: another
stage or family makes nothing stale.
"""

STAGES = {
    "ingest": "stages.ingest:Ingest",
    "equalize": "stages.equalize:Equalize",
    "sample": "stages.sample:Sample",
    "train_generator": "stages.train_generator:TrainGenerator",
    "finetune_generator": "stages.finetune_generator:FinetuneGenerator",
    "translate": "stages.translate:Translate",
    "perturb": "stages.perturb:Perturb",
    "spectrum": "stages.spectrum:Spectrum",
    "train": "stages.train:Train",
    "evaluate": "stages.evaluate:Evaluate",
    "report": "stages.report:Report",
}

GENERATORS = ("progan", "stylegan", "stylegan2", "stargan2")
"""Modules of `stages.generators`; beside each stand its discriminator and the conversion of its official files."""
