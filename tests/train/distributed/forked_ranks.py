"""Run as ``python -m tests.train.distributed.forked_ranks RANKS MODULE WORDS``: ranks as torchrun starts them.

They are forked off one process that has imported timbre. By torchrun each of them, and torchrun
itself, would import PyTorch anew, which takes longer than what they are tested for.
"""

import os
import runpy
import signal
import socket
import sys
import traceback
from contextlib import suppress

# Nobody waits for ranks that outlive their test.
PATIENCE_SECONDS = 300


def main(ranks: int, module: str, *words: str) -> int:
    """Run the module on so many ranks; return 0 if all end well. The first that fails ends the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    processes = set()
    for rank in range(ranks):
        if (process := os.fork()) == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            be_rank(module, words)
        processes.add(process)
    failed = 0
    while processes:
        process, status = os.wait()
        processes.discard(process)
        if status and not failed:
            failed = 1
            for other in processes:
                with suppress(ProcessLookupError):
                    os.kill(other, signal.SIGTERM)
    return failed


def be_rank(module: str, words: tuple[str, ...]) -> None:
    """Run the module as ``python -m`` does, and end this process."""
    signal.alarm(PATIENCE_SECONDS)
    sys.argv = [module, *words]
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
