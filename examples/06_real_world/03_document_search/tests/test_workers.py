"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from workers.cpu.endpoint import read_document


@pytest.mark.asyncio
async def test_a_document_is_split_at_its_headings_but_not_inside_of_code() -> None:
    sections = (
        await read_document.local("notes.md", b"before\n# One\ntext\n```\n# no heading\n```\n## Two\nmore\n")
    ).unwrap()

    assert [section["heading"] for section in sections] == ["notes.md", "One", "Two"]
    assert "# no heading" in sections[1]["text"]


@pytest.mark.asyncio
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\0\0", b"caf\xe9"])
async def test_what_is_no_text_is_refused(content: bytes) -> None:
    job = await read_document.local("picture", content)

    assert isinstance(job.exception, ValueError)
