"""Capture: each request and its answer, from a worker's memory to Parquet segments by day.

A folder of captures holds, for each endpoint::

    open/HOST-PID-STAMP.log            frames of records, one file for each worker; its lock tells that it is written
    date=YYYY-MM-DD/part-….parquet     what closed logs held, by UTC day
    date=YYYY-MM-DD/merged-….parquet   small segments of a past day, made one

A worker appends references to a list and writes every 0.1 s; whatever parses runs elsewhere.
"""
