"""Reads folders that `save_to_disk` of Hugging Face's datasets has written, without that library.

Such a folder has Arrow files, `dataset_info.json`, and `state.json` with the names of the files, in order. The folder
of a DatasetDict has `dataset_dict.json` and a folder for each split. Source of the layout: datasets 5.2,
arrow_dataset.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...exceptions import InvalidDocument, InvalidInput
from ..links.options import LinkOptions
from ..local_images import LocalImages
from ..samples import Sample, sample_documents, sampled
from ..tables.arrow import class_names, columns_of, table_samples
from ..tables.columns import Columns, Found
from ..tables.csv_file import CSVOptions

if TYPE_CHECKING:
    from docarray import Document

STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
MAX_STATE_BYTES = 16 * 2**20


def is_saved(folder: str | os.PathLike[str]) -> bool:
    """Return whether `save_to_disk` has written a folder."""
    path = Path(folder)
    return (path / SPLITS).is_file() or ((path / STATE).is_file() and (path / INFO).is_file())


def saved_documents(
    paths: Sequence[str | os.PathLike[str]],
    options: CSVOptions | None = None,
    *,
    task: str,
    on_error: str,
    columns: Columns | None = None,
    inside: Path | None = None,
) -> Iterator[Document]:
    """Return the documents of saved data sets, with one batch of their files in memory at a time.

    Columns and images are as in `parquet_file.parquet_documents`.

    Args:
        paths: of the folders, in reading order.
        options: `size` and `sampling_rate`, over all folders, and `convert_to_blob`.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.
        columns: content -> name of its column; see `columns.find_columns`.
        inside: folder that images may not leave; None for any.

    Returns:
        Documents as in `samples.SampleReader`.

    Raises:
        InvalidInput: several splits, a damaged folder, or a column that is missing or of another type, at this call; no
            rows.
        InvalidDocument: invalid rows, numbered from 0 in each file, all named in one error after the last row.
    """
    options = options or CSVOptions()
    names = [file for given in paths for file in _arrow_files(Path(given))]
    files = columns_of(((path, _schema(path)) for path in names), columns, task)
    return sample_documents(
        sampled(_rows(files, inside, options.links), options.sampling_rate),
        "saved data",
        task,
        on_error,
        limit=options.size,
        convert_to_blob=options.convert_to_blob,
    )


def _arrow_files(folder: Path) -> list[str]:
    """Return the paths of a folder's Arrow files, in order."""
    if (folder / SPLITS).is_file():
        splits = _read(folder / SPLITS).get("splits")
        if not isinstance(splits, list) or not splits or not all(map(_is_plain, splits)):
            raise InvalidInput(
                f"{SPLITS} must have names of splits. Got {splits!r:.80} in {str(folder)!r}. Save it again."
            )
        if len(splits) > 1:
            shown = ", ".join(repr(str(folder / split)) for split in splits[:20])
            raise InvalidInput(f"data must be one split. Got {len(splits)}: {shown}. Pass the folder of one.")
        folder /= splits[0]
    state = _read(folder / STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise InvalidInput(f"saved data must have no file of indices. Got one in {str(folder)!r}. Save it again.")
    named = state.get("_data_files")
    names = (
        [each.get("filename") if isinstance(each, dict) else None for each in named] if isinstance(named, list) else []
    )
    if not names or not all(map(_is_plain, names)):
        raise InvalidInput(f"{STATE} must name files beside it. Got {named!r:.80} in {str(folder)!r}. Save it again.")
    return [str(folder / str(name)) for name in names]


def _is_plain(name: object) -> bool:
    """Return whether a value is the name of something in the same folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read(MAX_STATE_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{path.name} must be a readable file of JSON. Got an error in {str(path.parent)!r}: {error!s:.120}. "
            f"Save the data again."
        ) from error
    if not isinstance(content, dict):
        raise InvalidInput(
            f"{path.name} must be an object. Got {content!r:.60} in {str(path.parent)!r}. Save it again."
        )
    return content


def _schema(path: str) -> Any:
    import pyarrow as pa

    try:
        with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(
            f"Arrow file must be readable. Got {path!r} ({str(error)[:120]}). Check that the folder is whole."
        ) from error


def _rows(
    files: Mapping[str, Found], inside: Path | None, links: LinkOptions
) -> Iterator[tuple[str, Sample | InvalidDocument]]:
    import pyarrow as pa

    for path, columns in files.items():
        number, images = 0, LocalImages(Path(path).absolute().parent, inside, links)
        try:
            with pa.OSFile(path) as file, pa.ipc.open_stream(file) as stream:
                names = class_names(stream.schema, columns)
                for batch in stream:
                    batch.validate(full=True)  # offsets that lead out of a buffer would end the process
                    for sample in table_samples(batch, columns, names, images):
                        yield f"{path} row {number}", sample
                        number += 1
        except (OSError, pa.ArrowException) as error:
            yield f"{path} from row {number}", InvalidDocument(f"file must be whole. Got an error: {str(error)[:120]}.")
