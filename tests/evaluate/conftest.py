"""A labelled set of words, sampled and encoded."""

from pathlib import Path

import pytest
from word_sets import encode_words, write_set

from saeray.evaluate.documents import Documents, read_documents
from saeray.evaluate.sample import draw, encode_samples
from saeray.evaluate.tasks import Tasks, read_tasks
from saeray.store import Store


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return read_tasks(str(write_set(tmp_path / "data")))


@pytest.fixture
def documents(tasks: Tasks, tmp_path: Path) -> Documents:
    sample = draw(tasks, "notes.parquet")
    encode_samples([sample], str(tmp_path / "store"), str(tmp_path / "out"), encode=encode_words)
    return read_documents(Store.open(str(tmp_path / "store")), sample)
