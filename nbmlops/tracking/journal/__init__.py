"""The journal: append-only JSON lines, one file for each process that logs, and their delivery.

A folder of journals holds, for each process::

    HOST-PID-STAMP.jsonl      a header line, then one line a record, each written before the call returned
    HOST-PID-STAMP.sent       how far it has been delivered, and the real ids of runs begun offline
    HOST-PID-STAMP.rejected   records that the store refused, each with the reason and the journal's header
    HOST-PID-STAMP.files/     copies of artifacts that wait for their upload
    HOST-PID-STAMP.lock       held by the one who delivers it

A record is ``[kind, run, ...]``; `metric` and `line` word each kind. A line without its newline was torn by a
crash before its call returned, so nobody was promised it. A journal appears under its name with its header
whole and its writer's lock held, so that nobody takes it for one that its writer has left.
"""

from nbmlops.tracking.journal.reading import CHUNK_BYTES, has_writer, header_of, journals, read
from nbmlops.tracking.journal.records import Header, Record, line, metric, portable
from nbmlops.tracking.journal.sent import Sent, crash_point, delivering, discard, reject, retry, tidy, unsent
from nbmlops.tracking.journal.writer import ABOVE, DURABILITIES, Writer

__all__ = [
    "ABOVE",
    "CHUNK_BYTES",
    "DURABILITIES",
    "Header",
    "Record",
    "Sent",
    "Writer",
    "crash_point",
    "delivering",
    "discard",
    "has_writer",
    "header_of",
    "journals",
    "line",
    "metric",
    "portable",
    "read",
    "reject",
    "retry",
    "tidy",
    "unsent",
]
