"""A process that holds two workers, one idle and one stuck, and waits to be killed."""

from __future__ import annotations

import sys
import threading
import time

from harness.runtimes.launchers import LocalLauncher, Program

METHOD = sys.argv[1]
MISBEHAVING = Program(name="misbehaving", needs_harness=True)

launcher = LocalLauncher()
idle, stuck = (launcher.launch(sys.executable, MISBEHAVING, fork=METHOD == "fork") for _ in "ab")
for worker in (idle, stuck):
    worker.request("answer", {"value": 1}, [], limit_s=60, doing="waiting")
hanging = {"limit_s": 600, "doing": "hanging"}
threading.Thread(target=stuck.request, args=("hang", {}, []), kwargs=hanging, daemon=True).start()
time.sleep(0.2)
sys.stdout.write(f"{idle.pid} {stuck.pid}\n")
sys.stdout.flush()
time.sleep(600)
