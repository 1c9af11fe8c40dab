"""Opens sessions in processes of every kind; prints one line for each: process id and session."""

import multiprocessing
import os
import sys

from booth import served


def job(user: str) -> None:
    os.write(1, served(user) + b"\n")


def main(method: str) -> None:
    job("main")
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=job, args=(f"{method}{number}",)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(process.exitcode or 0 for process in processes))


if __name__ == "__main__":
    main(sys.argv[1])
