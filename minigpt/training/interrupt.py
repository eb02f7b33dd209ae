"""Being asked to stop: a step is finished and saved before a run ends."""

import signal
import threading

# What asks a program to stop, where the system has it: Ctrl-C, kill and a shutdown, a closed
# terminal, Ctrl-Break on Windows
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop: the step was finished and saved, and the message says how to go
    on.

    signal: the number of the signal that asked.
    """

    def __init__(self, message, number=signal.SIGINT):
        super().__init__(message)
        self.signal = int(number)


class StopRequest:
    """True once one of STOP_SIGNALS has come; a second one then has its usual effect at once. A
    context, since it replaces their handlers.

    Signals that this process ignores stay ignored, as under nohup. Only the main thread can catch
    signals: in another, it is never true.
    """

    def __init__(self):
        self.previous = {}  # signal -> handler
        self.signal = None

    def __bool__(self):
        return self.signal is not None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: set by a program that embeds Python
                    self.previous[number] = signal.signal(number, self.request)
        return self

    def request(self, number, _frame):
        """Note the first signal."""
        self.signal = number
        self.restore()

    def restore(self):
        """Put back the handlers from before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def __exit__(self, *_):
        self.restore()
