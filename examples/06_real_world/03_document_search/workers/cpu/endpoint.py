"""What runs on CPU workers: documents are read and indexed by a queue, and searched by a load-balanced endpoint."""

from typing import Any

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, NetworkVolume, remote

# The index: an SQLite database with full-text search, on a volume that both endpoints see.
volume = NetworkVolume(name="example_document_search", mount_path="/index", size=1)

# One worker writes, so that no two wait for each other's locks; reading documents takes as many as there is work for.
read_config = CpuLiveServerless(
    name="06_03_document_search_read",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)
write_config = CpuLiveServerless(
    name="06_03_document_search_write",
    workersMin=0,
    workersMax=1,
    idleTimeout=300,
    networkVolumeId=volume.id,
)
search_config = CpuLiveLoadBalancer(
    name="06_03_document_search_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
    networkVolumeId=volume.id,
)


@remote(resource_config=read_config, timeout=60)
async def read_document(name: str, content: bytes) -> list[dict[str, str]]:
    """Split a document into its sections, a heading and a text each. ValueError for what is no text."""
    import re

    if b"\0" in content:
        raise ValueError(f"{name} is no text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is no UTF-8: {error.reason} at byte {error.start}") from None
    sections = [{"heading": name, "text": ""}]
    fenced = False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        heading = None if fenced else re.match(r"#{1,6}\s+(.+)", line)
        if heading:
            sections.append({"heading": heading[1].strip(), "text": ""})
        else:
            sections[-1]["text"] += line + "\n"
    return [section for section in sections if section["text"].strip()]


@remote(resource_config=write_config, max_retries=2, timeout=120)
async def index_documents(documents: list[tuple[str, bytes]]) -> dict[str, Any]:
    """Read documents beside each other and write their sections into the index, in the place of older ones.

    A document that cannot be read costs the others nothing. What is written is written in one transaction, so that an
    attempt which is repeated changes nothing.
    """
    import os
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    refused: dict[str, str] = {}
    sections: list[tuple[str, str, str]] = []
    names = [name for name, _ in documents]
    jobs = [job async for job in read_document.starmap(documents)]  # in the order of the documents
    for name, job in zip(names, jobs, strict=True):
        if job.error:
            refused[name] = job.error
            continue
        sections += [(name, section["heading"], section["text"]) for section in job.unwrap()]

    file = Path(os.environ["FLASH_VOLUME_EXAMPLE_DOCUMENT_SEARCH"], "index.db")
    with closing(sqlite3.connect(file, timeout=20)) as database, database:
        database.execute(
            "CREATE VIRTUAL TABLE IF NOT EXISTS sections"
            " USING fts5(document UNINDEXED, heading, text, tokenize='porter')"
        )
        database.executemany("DELETE FROM sections WHERE document = ?", [(name,) for name in names])
        database.executemany("INSERT INTO sections VALUES (?, ?, ?)", sections)
    return {"documents": len(documents) - len(refused), "sections": len(sections), "refused": refused}


@remote(resource_config=search_config, method="GET", path="/search")
async def search_sections(words: str, limit: int = 5) -> list[dict[str, Any]]:
    """The sections that have all words, the best first: a hit in a heading counts ten times."""
    import os
    import re
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    wanted = re.findall(r"\w+", words)
    if not wanted:
        raise ValueError("there is no word to search for")
    file = Path(os.environ["FLASH_VOLUME_EXAMPLE_DOCUMENT_SEARCH"], "index.db")
    if not file.exists():
        return []
    statement = """
        SELECT document, heading, snippet(sections, 2, '[', ']', ' … ', 16), -bm25(sections, 0, 10, 1) AS score
        FROM sections WHERE sections MATCH ? ORDER BY score DESC LIMIT ?
    """
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=20)) as database:
        rows = database.execute(statement, (" ".join(f'"{word}"' for word in wanted), limit)).fetchall()
    keys = ("document", "heading", "snippet", "score")
    return [{**dict(zip(keys, row, strict=True)), "score": round(row[3], 2)} for row in rows]
