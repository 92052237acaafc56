"""Fakes of StarGAN2: real photographs carried into other domains (Choi et al. 2020, arXiv:1912.01865, section 2).

Each source photograph gives `per_source` images in each target domain, by default in every domain but its own, as the
authors evaluate their network (appendix C). The style comes from a latent, or from a photograph of the target domain.

A fake has two families to keep apart: it shows what its source shows, so it has the group and the split of its source,
and a reference is always of this same split; but it is a fake of this node, of the target domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline import ids
from pipeline.digests import hash_rank
from pipeline.spelling import normalized
from pipeline.stage import (
    FAKE,
    ID,
    PICTURE,
    Batch,
    Children,
    Context,
    Field,
    Input,
    Kind,
    Parents,
    Schema,
    Stage,
    StageConfig,
    file_setting,
    row_setting,
    setting,
)
from stages.generators import generator_file
from stages.generators.families import check_maker
from stages.generators.weights import Header
from stages.images.photographs import check_real
from stages.training.networks import in_micro_batches, prepare
from stages.weights.kinds import WITHOUT_MASKS

if TYPE_CHECKING:
    from torch import Tensor

PAIRS = 1 << 14  # of source and reference that are ranked at a time: what fits into a cache


class TranslateConfig(StageConfig):
    """Settings of `translate`."""

    checkpoint: str = file_setting(
        description="a StarGAN2: a .safetensors file, an official checkpoint, MANIFEST.yaml#ENTRY, or a node"
    )
    guide: Literal["latent", "reference"] = setting(
        "latent", description="where styles come from: drawn latents, or rows of `references`"
    )
    domains: list[int | str] | None = row_setting(
        None, min_length=1, description="target domains, by name or number (none: all of the network's)"
    )
    names: list[str] | None = row_setting(
        None, description="what your rows call the network's domains, in its order (none: as in the weights)"
    )
    own_domain: bool = row_setting(False, description="translate a row into its own domain too")
    per_source: int = row_setting(1, ge=1, le=1000, description="images per source row and target domain")
    first_draw: int = row_setting(0, ge=0, lt=1 << 32, description="number of the first draw: others give other styles")
    truncation_psi: float = setting(1.0, description="1: no truncation; smaller: nearer to the domain's average style")
    micro_batch: int = setting(8, ge=1, le=1024, description="images per run of the network")

    @model_validator(mode="after")
    def _consistent(self) -> TranslateConfig:
        if self.guide == "reference" and self.truncation_psi != 1:
            raise ValueError("truncation_psi has no effect with guide: reference; drop it")
        if self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError(f"names are {', '.join(self.names)}, expected different ones")
        return self


class Translate(Stage):
    """Rows with an `image` in, translations of it out: field `image` (H, W, 3) uint8 RGB."""

    name: ClassVar[str] = "translate"
    kind: ClassVar[Kind] = Kind.EXPAND
    origin: ClassVar[bool] = True
    Config: ClassVar[type[StageConfig]] = TranslateConfig
    inputs: ClassVar[Mapping[str, Input]] = {
        "of": Input("rows", description="real rows with an `image` of the network's size"),
        "checkpoint": Input("artifact", required=False, takes="generator", description="the StarGAN2"),
        "references": Input("rows", required=False, description="real rows that show the style, for guide: reference"),
    }
    libraries: ClassVar[tuple[str, ...]] = ("numpy", "torch", "safetensors")
    random: ClassVar[bool] = True
    network: ClassVar[bool] = True
    block_rows: ClassVar[int] = 64

    def schema(self, config: TranslateConfig, inputs: Mapping[str, Any]) -> Schema:
        side = generator_file.read_header(inputs["checkpoint"]).resolution
        for name in set(inputs) - {"checkpoint"}:
            image = inputs[name].get("image")
            if image is None or image.dtype not in ("uint8", "|u1", "u1") or image.shape != (side, side, 3):
                found = f"{image.shape} {image.dtype}" if image else "none"
                raise ValueError(
                    f"translate needs `image` as ({side}, {side}, 3) uint8 in '{name}', found {found}; put equalize "
                    f"with size: {side} before it"
                )
        return {"image": Field("uint8", (side, side, 3), "sRGB, 0..255", PICTURE)}

    def modules(self, config: TranslateConfig, files: Mapping[str, Path] = MappingProxyType({})) -> tuple[str, ...]:
        return generator_file.modules(files["checkpoint"])

    def least_rows(self, config: TranslateConfig) -> int:
        return config.micro_batch

    def check(self, config: TranslateConfig, files: Mapping[str, Path]) -> None:
        path = files["checkpoint"]
        header = generator_file.read_header(path)
        check_maker(self.name, path, header)
        if config.names is not None and len(config.names) != header.dimensions["c_dim"]:
            count = header.dimensions["c_dim"]
            raise ValueError(f"translate: names are {', '.join(config.names)}; {path} has {count} domains")
        targets(config, header)

    def remarks(self, config: TranslateConfig, files: Mapping[str, Path]) -> Sequence[str]:
        if not generator_file.lacks_masks(generator_file.read_header(files["checkpoint"])):
            return ()
        return (f"{files['checkpoint']} has no masks: {WITHOUT_MASKS}",)

    def children(
        self,
        config: TranslateConfig,
        files: Mapping[str, Path],
        parents: Parents,
        partners: Parents | None,
        seed: int,
    ) -> Children:
        """Each source in each target domain. A row's index is its domain; behind it, the draw of a latent.

        So a further domain, draw, source or reference adds rows and leaves those that there are.
        """
        header = generator_file.read_header(files["checkpoint"])
        if (config.guide == "reference") != (partners is not None):
            advice = "guide: reference needs it" if partners is None else "guide: latent makes no use of it; drop it"
            raise ValueError(f"translate: 'references' is {'missing' if partners is None else 'given'}; {advice}")
        for name, rows in (("of", parents), ("references", partners)):
            if rows is not None:
                check_real(self.name, name, rows)
        names = domain_names(config, header)
        wanted = targets(config, header)
        allowed = np.ones((len(parents), len(wanted)), dtype=bool)
        if not config.own_domain:
            allowed = own_numbers(parents, names)[:, None] != wanted
        if partners is None:
            parent, column, draw = np.nonzero(np.repeat(allowed[:, :, None], config.per_source, axis=2))
            index = wanted[column] + len(names) * (draw + config.first_draw)
            return Children(parent, index, label=FAKE, domain=[names[number] for number in wanted[column]])
        found = [
            _with_references(config, parents, allowed[:, column], partners, names[number], number, seed)
            for column, number in enumerate(wanted.tolist())
        ]
        parent, partner, index = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return Children(parent, index, partner, FAKE, [names[number] for number in index])

    def compute(self, config: TranslateConfig, batch: Batch, ctx: Context) -> Mapping[str, NDArray[Any]]:
        import torch

        from detectors.transfers import Fetched, sent

        assert batch.index is not None
        prepare(ctx.device, ctx.threads)
        path = generator_file.place(ctx)
        family, generator, header = generator_file.load(path, ctx.device)
        rows = {"source": batch.inputs[0]["image"], "domain": batch.index % header.dimensions["c_dim"]}
        averages = None
        if config.guide == "latent":
            width = header.dimensions["z_dim"]
            latents = [ctx.rng(row_id, "latent").standard_normal(width) for row_id in batch.ids]
            rows["latent"] = np.stack(latents).astype(np.float32)
            averages = average_styles(generator, ctx.device) if config.truncation_psi != 1 else None
        else:
            rows["reference"] = batch.inputs[1]["image"]

        sums: list[Tensor] = []

        @torch.no_grad()
        def images(rows: Mapping[str, NDArray[Any]]) -> Fetched:
            given = {name: sent(array, ctx.device) for name, array in rows.items()}
            source, domain = as_float(given["source"]), given["domain"]
            if "latent" in given:
                style = generator.style_of_latent(given["latent"], domain)
                style = style if averages is None else averages[domain].lerp(style, config.truncation_psi)
            else:
                style = generator.style_of_reference(as_float(given["reference"]), domain)
            made = generator.translate(source, style, generator.masks(source))
            sums.append(made.sum())
            return Fetched(family.to_uint8(made))

        found = in_micro_batches(images, rows, config.micro_batch)
        generator_file.refuse_infinite(self.name, path, sums)
        return {"image": found}


def as_float(images: Tensor) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 from -1 to 1, as the network was trained."""
    return ((images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5).contiguous()


@lru_cache(maxsize=2)
def average_styles(generator: Any, device: str) -> Tensor:
    """(c_dim, w_dim): the average style of each domain."""
    import torch

    return generator.average_style(torch.arange(generator.c_dim, device=device))  # type: ignore[no-any-return]


def domain_names(config: TranslateConfig, header: Header) -> Sequence[str]:
    """Words of the network's domains, as rows have them: those of the config, else of the weights, else numbers."""
    given = config.names or header.domains or [str(number) for number in range(header.dimensions["c_dim"])]
    return [normalized(name) for name in given]


def targets(config: TranslateConfig, header: Header) -> NDArray[np.int64]:
    """Numbers of the target domains. Raises ValueError for one that the network does not have, or that stands twice."""
    names = list(domain_names(config, header))
    found = []
    for entry in range(len(names)) if config.domains is None else config.domains:
        word = normalized(entry) if isinstance(entry, str) else entry
        number = names.index(word) if word in names else word
        if not isinstance(number, int) or not 0 <= number < len(names):
            known = f"{', '.join(names)}, numbered from 0"
            raise ValueError(f"translate: domains names {entry!r}, which the network does not have; it has {known}")
        if number in found:
            raise ValueError(f"translate: domains names '{names[number]}' twice")
        found.append(number)
    return np.array(found, dtype=np.int64)


def own_numbers(rows: Parents, names: Sequence[str]) -> NDArray[np.int64]:
    """(n,) number of each row's own domain, -1 for a row of none. Raises ValueError for a word that is no domain."""
    numbers = {name: number for number, name in enumerate(names)} | {"": -1}
    words = rows.domain.tolist()
    if unknown := sorted(set(words) - numbers.keys()):
        raise ValueError(
            f"translate: 'of' has rows of the domain '{unknown[0]}', but the network's are {', '.join(names)}; set "
            "names to what your rows call these, or own_domain: true"
        )
    return np.array([numbers[word] for word in words], dtype=np.int64)


def _with_references(
    config: TranslateConfig,
    parents: Parents,
    allowed: NDArray[np.bool_],
    partners: Parents,
    name: str,
    number: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Source and reference positions and index of the translations into one domain, split by split."""
    sources: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    references: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    last = config.first_draw + config.per_source
    for split in sorted(set(parents.split[allowed].tolist())):
        here = np.flatnonzero(allowed & (parents.split == split))
        there = np.flatnonzero((partners.split == split) & (partners.domain == name))
        lacking = f"'references' has {len(there)} rows of the domain '{name}' in the split {split}"
        if len(there) < last:
            raise ValueError(f"translate: {lacking}; {last} are needed for each source")
        chosen = ranked(parents.id[here], partners.id[there], last, seed)
        if (chosen < 0).any():
            raise ValueError(f"translate: {lacking}, and one is the source itself; {last} others are needed")
        chosen = chosen[:, config.first_draw :]
        sources.append(np.repeat(here, chosen.shape[1]))
        references.append(there[chosen.ravel()])
    parent = np.concatenate(sources)
    return parent, np.concatenate(references), np.full(len(parent), number, dtype=np.int64)


def ranked(sources: NDArray[np.void], references: NDArray[np.void], count: int, seed: int) -> NDArray[np.int64]:
    """(sources, count): positions of each source's first references, by a hash of both ids; -1: there are no more.

    Rendezvous hashing (Thaler and Ravishankar 1998): a further reference changes nothing but the rows that it wins. A
    source is not its own reference. Time grows with sources times references, some ten million pairs a second.
    """
    words = [ids.words(rows)[:, 0] for rows in (sources, references)]
    order = ids.order(references)
    place = ids.lookup(references[order], sources)
    own = np.where(place >= 0, order[place], -1)
    result = np.empty((len(sources), count), dtype=np.int64)
    step = max(1, PAIRS // len(references))
    for start in range(0, len(sources), step):
        part = slice(start, start + step)
        pairs = np.empty((len(sources[part]), len(references), 2), dtype=np.uint64)
        pairs[:, :, 0], pairs[:, :, 1] = words[0][part, None], words[1]
        rank = hash_rank(pairs.view(ID).ravel(), "reference", seed).reshape(pairs.shape[:2])
        itself = np.flatnonzero(own[part] >= 0)
        rank[itself, own[part][itself]] = np.iinfo(np.uint64).max
        first = np.argpartition(rank, count - 1, axis=1)[:, :count] if count < len(references) else np.argsort(rank)
        sequence = np.argsort(np.take_along_axis(rank, first, axis=1), axis=1, kind="stable")
        first = np.take_along_axis(first, sequence, axis=1)
        result[part] = np.where(first == own[part, None], -1, first)
    return result
