"""For every test: programs that are started take signals as they would in a terminal."""

from __future__ import annotations

import signal

# A shell that runs the tests in the background has them ignore SIGINT, and so would all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
