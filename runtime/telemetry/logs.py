"""Log records of this project as OpenTelemetry has them, each with the trace that it belongs to.

What users said cannot be in them: only this project's own loggers are listened to, whose texts never hold it, and of
an error that comes with a record only the kind and the place are kept, never its text.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.util.types import AttributeValue

from microturn.protocols import telemetry_names as names

OWN_LOGGERS: Final = "microturn"
"""Root of the loggers that are listened to."""
_SEVERITIES: Final = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.NOTSET, SeverityNumber.DEBUG),
)


@contextmanager
def own_logs_to(provider: LoggerProvider) -> Iterator[None]:
    """Hand the records of this project's loggers to a provider until the end of the block."""
    handler = _Handler(provider)
    logger = logging.getLogger(OWN_LOGGERS)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Handler(logging.Handler):
    """Makes a record of OpenTelemetry out of one of Python's."""

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__(logging.INFO)
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._provider.get_logger(record.name).emit(
                LogRecord(
                    timestamp=round(record.created * 1e9),
                    observed_timestamp=time.time_ns(),
                    severity_text=record.levelname,
                    severity_number=_severity(record.levelno),
                    body=record.getMessage(),
                    attributes=_attributes(record),
                )
            )
        except Exception:  # noqa: BLE001  # as every handler of Python's: a log record must not break what logs it
            self.handleError(record)


def _severity(level: int) -> SeverityNumber:
    return next(number for least, number in _SEVERITIES if level >= least)


def _attributes(record: logging.LogRecord) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {
        names.CODE_FUNCTION: f"{record.name}.{record.funcName}",
        names.CODE_LINE: record.lineno,
    }
    if record.exc_info and record.exc_info[0] is not None:
        attributes[names.EXCEPTION_TYPE] = record.exc_info[0].__name__
        frames = traceback.extract_tb(record.exc_info[2])
        if frames:
            attributes[names.EXCEPTION_PLACE] = f"{frames[-1].name}:{frames[-1].lineno}"
    return attributes
