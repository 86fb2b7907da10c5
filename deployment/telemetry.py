"""What a server tells of itself: metrics for Prometheus, and its log as lines of text or of JSON."""

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import prometheus_client

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class Metrics:
    """Counters of one server.

    Attributes:
      reloads: of 'model' and 'outcome', 'loaded' or 'failed'.
      batch: histogram of rows, of 'model'.
    """

    def __init__(self):
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._requests = prometheus_client.Counter(
            'practicum_requests', 'Requests by what they asked and how they were answered.',
            ('model', 'operation', 'status'), registry=self._registry)
        self._seconds = prometheus_client.Histogram(
            'practicum_request_seconds', 'From the arrival of a request to its answer.', ('model', 'operation'),
            buckets=_SECONDS, registry=self._registry)
        self.batch = prometheus_client.Histogram(
            'practicum_batch_rows', 'Examples that were computed together.', ('model',), buckets=_ROWS,
            registry=self._registry)
        self._waiting = prometheus_client.Gauge(
            'practicum_waiting', 'Requests that wait for the model.', ('model',), registry=self._registry)
        self.reloads = prometheus_client.Counter(
            'practicum_loads', 'Files that were loaded, or refused, while serving.', ('model', 'outcome'),
            registry=self._registry)
        self._known: dict[tuple, tuple] = {}  # finding children by their labels takes longer than counting

    def request(self, model: str, operation: str, status: int, seconds: float) -> None:
        """Counts a request; model: '' of those about none that there is."""
        key = model, operation, status
        children = self._known.get(key)
        if children is None:
            children = self._known[key] = (self._requests.labels(model, operation, str(status)),
                                           self._seconds.labels(model, operation))
        children[0].inc()
        children[1].observe(seconds)

    def watch(self, model: str, waiting: Callable[[], float]) -> None:
        """Has a model's queue measured whenever somebody asks."""
        self._waiting.labels(model).set_function(waiting)

    def text(self) -> bytes:
        """Returns all of them as Prometheus reads them."""
        return prometheus_client.generate_latest(self._registry)


class _JsonLines(logging.Formatter):
    """A line of JSON for each record: time, level, message, and the fields of `extra={'fields': {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))
        line: dict[str, Any] = {'time': f'{moment}.{int(record.msecs):03d}Z', 'level': record.levelname.lower(),
                                'message': record.getMessage(), **getattr(record, 'fields', {})}
        if record.exc_info:
            line['traceback'] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_as(form: str) -> None:
    """Has the log written to stdout, 'text' or 'json'. A server goes on where nobody reads its log any more."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines() if form == 'json' else logging.Formatter('%(message)s'))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.raiseExceptions = False
