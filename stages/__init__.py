"""What there is, by name: stages, families of generators, kinds of weights, sections of the report, verbs.

The engine imports a stage's module when a pipeline uses it, and never before. This file is in no code closure: another
line makes nothing stale.
"""

STAGES = {
    "ingest": "stages.ingest:Ingest",
    "examine": "stages.examine:Examine",
    "frames": "stages.frames:Frames",
    "landmarks": "stages.landmarks:Landmarks",
    "face_crop": "stages.face_crop:FaceCrop",
    "pair_crop": "stages.pair_crop:PairCrop",
    "equalize": "stages.equalize:Equalize",
    "sample": "stages.sample:Sample",
    "train_generator": "stages.train_generator:TrainGenerator",
    "finetune_generator": "stages.finetune_generator:FinetuneGenerator",
    "latent_shift": "stages.latent_shift:LatentShift",
    "train_encoder": "stages.train_encoder:TrainEncoder",
    "invert": "stages.invert:Invert",
    "translate": "stages.translate:Translate",
    "simulate": "stages.simulate:Simulate",
    "perturb": "stages.perturb:Perturb",
    "fit_equalization": "stages.fit_equalization:FitEqualization",
    "equalize_spectrum": "stages.equalize_spectrum:EqualizeSpectrum",
    "upsample": "stages.upsample:Upsample",
    "spectrum": "stages.spectrum:Spectrum",
    "measure": "stages.measure:Measure",
    "mean_spectra": "stages.mean_spectra:MeanSpectra",
    "prnu": "stages.prnu:Prnu",
    "features": "stages.features:Features",
    "flip": "stages.flip:Flip",
    "train_resynthesizer": "stages.train_resynthesizer:TrainResynthesizer",
    "residual": "stages.residual:Residual",
    "standardize": "stages.standardize:Standardize",
    "train": "stages.train:Train",
    "evaluate": "stages.evaluate:Evaluate",
    "redivide": "stages.redivide:Redivide",
    "segment": "stages.segment:Segment",
    "top_patches": "stages.top_patches:TopPatches",
    "extremes": "stages.extremes:Extremes",
    "strata": "stages.strata:Strata",
    "audit": "stages.audit:Audit",
    "claims": "stages.claims:Claims",
    "bias": "stages.bias:Bias",
    "report": "stages.report:Report",
}

GENERATORS = ("progan", "stylegan", "stylegan2", "stargan2", "sngan", "dcgan", "autogan", "mfa", "glow")
"""Modules of `stages.generators`; beside each stand its discriminator and the conversion of official files, if any."""

WEIGHTS = {
    "generator": "stages.generators.weights",
    "rdn": "stages.resynthesis.weights",
    "perceptual": "stages.resynthesis.perceptual",
}
"""Network in a file of weights -> the module that reads such files."""

SECTIONS = (
    "audit",
    "baselines",
    "compared",
    "results",
    "claims",
    "domains",
    "roc",
    "scores",
    "curves",
    "wrong",
    "bias",
    "top_patches",
    "latent_shifts",
    "extremes",
    "strata",
    "samples",
    "same_latents",
    "inversions",
    "spectra",
    "residuals",
    "mean_spectra",
    "generators",
    "equalizations",
    "failed",
    "lineage",
)
"""Modules of `stages.reporting`, each a section of the report; where it stands on the page it says itself."""

COMMANDS = {
    "quickstart": "stages.commands.quickstart",
    "audit": "stages.commands.audit",
    "checkpoint": "stages.commands.checkpoint",
    "table": "stages.commands.table",
    "compare": "stages.commands.compare",
    "predict": "stages.commands.predict",
    "lineage": "stages.commands.lineage",
    "bias": "stages.commands.bias",
    "export": "stages.commands.export",
}
"""Verb of the command line that knows images -> the module that registers it."""

FORMATS = {
    "npz": "stages.exporting.npz",
    "parquet": "stages.exporting.parquet",
    "imagefolder": "stages.exporting.imagefolder",
    "webdataset": "stages.exporting.webdataset",
}
"""Word behind `touchstone export --to` -> the module that writes such exports."""

READERS = {
    "folder": "stages.images.readers.folder",
    "manifest": "stages.images.readers.manifest",
    "zip": "stages.images.readers.zip",
    "torchvision": "stages.images.readers.torchvision",
    "tfrecord": "stages.images.readers.tfrecord",
    "tar": "stages.images.readers.tar",
    "lmdb": "stages.images.readers.lmdb",
    "parquet": "stages.images.readers.parquet",
}
"""Setting of `ingest` that names a source -> the module that reads such sources."""

LAYOUTS = {
    "faceforensics": "stages.images.readers.faceforensics",
    "df40": "stages.images.readers.df40",
    "celeba": "stages.images.readers.celeba",
    "ffhq": "stages.images.readers.ffhq",
    "diffusionforensics": "stages.images.readers.diffusionforensics",
    "genimage": "stages.images.readers.genimage",
    "forensynths": "stages.images.readers.binary_leaves",
    "aigcdetect": "stages.images.readers.binary_leaves",
    "ufd-diffusion": "stages.images.readers.binary_leaves",
    "aigibench": "stages.images.readers.binary_leaves",
    "wildrf": "stages.images.readers.binary_leaves",
    "imagefolder": "stages.images.readers.imagefolder",
}
"""How a published data set lies on a disk -> the module that knows it, in the order of `layout: auto`."""
