"""The first signal asks, the second ends, and the exit code says which."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from heedful.signals import stop_requested

SCRIPT = """
import sys, time
from heedful.signals import stop_requested
with stop_requested() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    print("saving", flush=True)
    if sys.argv[1] == "slow":
        time.sleep(60)
sys.exit(stop.exit_code)
"""


def _start(mode):
    command = [sys.executable, "-c", SCRIPT, mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_the_work_be_saved(number, code):
    process = _start("fast")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "saving\n" and process.returncode == code
    assert "once more to exit at once" in err


def test_the_second_signal_exits_at_once():
    process = _start("slow")
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130


def test_the_handlers_of_before_come_back():
    before = signal.getsignal(signal.SIGINT)
    with stop_requested() as stop:
        assert not stop and stop.exit_code == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert stop and stop.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_gets_a_flag_that_stays_unset():
    seen = []

    def work():
        with stop_requested() as stop:
            seen.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
