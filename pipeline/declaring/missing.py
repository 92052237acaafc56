"""All files and folders that a pipeline names and that are not there, before anything else of it is checked."""

from __future__ import annotations

from pathlib import Path

from pipeline.declaring.document import load
from pipeline.declaring.file_settings import file_reference
from pipeline.declaring.matrix import expand
from pipeline.declaring.stage_names import load_stage
from pipeline.errors import ConfigError
from pipeline.importing import add_user_folder


def missing_files(path: Path) -> list[str]:
    """One sentence for each file or folder that lacks, in the order of the file, with line and way out.

    Of a manifest's entry also: a digest that lacks, or a checkpoint that is to be fetched. Raises ConfigError where the
    pipeline file itself cannot be read.
    """
    document = load(path)
    entries = document.data.get("nodes") if isinstance(document.data, dict) else None
    if not isinstance(entries, dict):
        raise document.error(("nodes",), "must be a mapping of node names to stages, and not empty")
    add_user_folder(path.parent)
    instances = expand(entries, document)
    found: dict[str, None] = {}
    for instance in instances.values():
        try:
            stage = load_stage(str(instance.raw["stage"]))
        except ValueError:
            continue  # the check of the pipeline names it
        for key, info in stage.Config.model_fields.items():
            text, place = instance.raw.get(key), ("nodes", instance.entry, key)
            if not isinstance(text, str) or (key in stage.inputs and (text in instances or text in entries)):
                continue
            try:
                if (info.json_schema_extra or {}) == {"recipe": "content"}:
                    file_reference(text, place, document, download=False)
                elif key in stage.places and not (path.parent / text).exists():
                    raise document.error(place, f"names {text}, which does not exist beside {path.name}; put it there")
            except ConfigError as error:
                found[str(error)] = None
    return list(found)
