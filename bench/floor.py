"""The floor: what the same machine does with the same messages when nobody judges, audits or secures anything.

``ITI-18``  uvicorn, lxml, one SELECT by raw psycopg, stored fragments decompressed and joined
``ITI-42``  uvicorn, lxml, the rows of one submission inserted by raw psycopg in one pipeline, one durable commit
``ITI-41``  the bytes written to a file, fsync of file and folder (or put into a bucket), then what ITI-42 does

Run as ``python -m bench.floor PORT WORKERS URL FOLDER``; each worker has its own connection and its own loop.
"""

import io
import json
import os
import secrets
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from lxml import etree
from minio import Minio

from bench.messages import AUTHORITY

_HEAD = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>'
    b'<query:AdhocQueryResponse xmlns:query="urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0" '
    b'status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"><rim:RegistryObjectList '
    b'xmlns:rim="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">'
)
_TAIL = b"</rim:RegistryObjectList></query:AdhocQueryResponse></s:Body></s:Envelope>"
_DONE = (
    b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><rs:RegistryResponse '
    b'xmlns:rs="urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0" '
    b'status="urn:oasis:names:tc:ebxml-regrep:ResponseStatusType:Success"/></s:Body></s:Envelope>'
)
_VALUE = "{urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0}Value"
_FIND = (
    "SELECT e.entry_uuid, e.status, e.logical_id, e.version, e.home, e.dictionary, e.fragment "
    "FROM entry e WHERE e.patient_key = (SELECT patient_key FROM patient WHERE authority = %s AND id = %s) "
    "AND e.status = 1 AND e.object_type = 1 ORDER BY e.entry_key"
)


class Floor:
    """The ASGI application of one worker."""

    def __init__(self, url: str, folder: Path) -> None:
        self.connection = psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True)
        self.connection.prepare_threshold = 0
        self.folder = folder
        place = json.loads(os.environ.get("BENCH_BUCKET", "null"))
        self.bucket_name = place["bucket"] if place else ""
        self.bucket = place and Minio(
            place["endpoint"], place["access"], place["secret"], secure=False, region="us-east-1"
        )
        self.dictionaries = {n: bytes(b) for n, b in self.connection.execute("SELECT number, bytes FROM dictionary")}
        self.rows = [
            (f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", row)
            for table, row in self._example()
        ]

    def _example(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows of one submission that is there already, to be written again under new keys."""
        found = []
        key = self.connection.execute("SELECT entry_key, submission_set_key FROM entry LIMIT 1").fetchone()
        assert key is not None
        entry_key, set_key = key
        for table, where in (
            ("submission_set", f"submission_set_key = {set_key}"),
            ("entry", f"entry_key = {entry_key}"),
            ("entry_code", f"entry_key = {entry_key}"),
            ("entry_author", f"entry_key = {entry_key}"),
            ("association", f"submission_set_key = {set_key}"),
        ):
            cursor = self.connection.execute(f"SELECT * FROM {table} WHERE {where} LIMIT 1")
            names = [column.name for column in cursor.description or ()]
            row = cursor.fetchone()
            assert row is not None, table
            found.append((table, dict(zip(names, row, strict=True))))
        found += [("object_key", {"entry_uuid": "", "kind": 1, "patient_key": found[1][1]["patient_key"]})] * 3
        found += [("unique_id_key", {"unique_id": "", "kind": 1})] * 2
        return found

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        answer = self.answer(scope["path"], body)
        headers = [(b"content-type", b"application/soap+xml"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, path: str, body: bytes) -> bytes:
        if path == "/find":
            return self.find(body)
        if path.startswith("/provide"):
            self.put(body) if path == "/provide-s3" else self.keep(body)
            body = body[body.index(b"<s:Envelope") : body.index(b"</s:Envelope>") + 13]
        etree.fromstring(body)
        self.register()
        return _DONE

    def find(self, body: bytes) -> bytes:
        values = etree.fromstring(body).iter(_VALUE)
        patient = next(values).text.strip("'").split("^")[0]
        rows = self.connection.execute(_FIND, (AUTHORITY, patient), binary=True).fetchall()
        pieces = [_HEAD]
        pieces += [zlib.decompressobj(-15, self.dictionaries[row[5]]).decompress(row[6]) for row in rows]
        return b"".join([*pieces, _TAIL])

    def register(self) -> None:
        keys = {"submission_set_key": secrets.randbits(62), "entry_key": secrets.randbits(62)}
        with self.connection.pipeline(), self.connection.transaction():
            for statement, row in self.rows:
                fresh = keys | {"association_key": secrets.randbits(62)}
                new = {name: fresh.get(name, value) for name, value in row.items()}
                for name in ("entry_uuid", "unique_id", "logical_id"):
                    if name in new:
                        new[name] = str(uuid.uuid4())
                self.connection.execute(statement, list(new.values()))

    def put(self, data: bytes) -> None:
        assert self.bucket is not None
        self.bucket.put_object(self.bucket_name, uuid.uuid4().hex, io.BytesIO(data), len(data))

    def keep(self, data: bytes) -> None:
        path = self.folder / uuid.uuid4().hex
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def application() -> Floor:
    return Floor(os.environ["BENCH_URL"], Path(os.environ["BENCH_FOLDER"]))


if __name__ == "__main__":
    port, workers, url, folder = sys.argv[1:]
    os.environ.update(BENCH_URL=url, BENCH_FOLDER=folder)
    uvicorn.run(
        "bench.floor:application",
        factory=True,
        port=int(port),
        workers=int(workers),
        http="httptools",
        log_level="error",
        lifespan="off",
    )
