"""A C program that changes its memory as it is told, and hardly anything else of it.

Each line on its standard input is a command, each answer a line. It uses no stdio and no
malloc: besides, it writes only to its stack and to a few pages of its data, `Writer.own`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

CC = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]  # as Python itself was built
COMPILER = shutil.which(CC) or shutil.which("cc")


def environment() -> dict[str, str]:
    """This process's, for programs that are not built with the sanitizer this one may run under."""
    return {key: value for key, value in os.environ.items() if "libasan" not in value}


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}

SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char line[1 << 16];
static char *at;
static char answer[40];

static void put(unsigned long long number)
{
    char *end = answer + sizeof(answer) - 1, *p = end;
    *p = '\n';
    do { *--p = (char)('0' + number % 10); } while (number /= 10);
    if (write(1, p, (size_t)(end - p + 1)) < 0) _exit(3);
}

static unsigned long long number(void) { return strtoull(at, &at, 10); }

static void increment(void)
{
    for (unsigned long long address; (address = number()) != 0;)
        ++*(volatile char *)(uintptr_t)address;
}

static unsigned long long deep(long pages)
{
    volatile char room[4096];
    room[0] = 1;
    return pages <= 1 ? (uintptr_t)room : deep(pages - 1) + (room[0] - 1);
}

static void *thread(void *to)
{
    volatile char mine = 1;
    *(volatile uintptr_t *)to = (uintptr_t)&mine;
    for (;;) pause();
}

static uintptr_t start_thread(void *page)
{
    pthread_t id;
    volatile uintptr_t *said = page;
    if (pthread_create(&id, NULL, thread, page) != 0) return 0;
    while (*said == 0) sched_yield();
    return *said;
}

static void wait_for_a_byte(void)
{
    char byte;
    put((unsigned long long)getpid());
    if (read(0, &byte, 1) < 0) _exit(4);
}

static uintptr_t map(int flags)
{
    return (uintptr_t)mmap(NULL, number(), PROT_READ | PROT_WRITE, flags, -1, 0);
}

static void forked(const char *how)
{
    pid_t child = fork();
    if (child == 0) {
        increment();
        if (how[0] == 'e') exit(0);
        if (how[0] == 'k') kill(getpid(), SIGKILL);
        if (how[0] == 'w') wait_for_a_byte();
        _exit(0);
    }
    waitpid(child, NULL, 0);
    put((unsigned long long)child);
}

static int get_line(void)
{
    size_t n = 0;
    while (n < sizeof(line) - 1 && read(0, line + n, 1) == 1)
        if (line[n++] == '\n') { line[n - 1] = 0; at = line + 1; return 1; }
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    put((unsigned long long)getpid());
    while (get_line()) {
        switch (line[0]) {
        case 'm': put(map(MAP_PRIVATE | MAP_ANONYMOUS)); break;
        case 'M': put(map(MAP_SHARED | MAP_ANONYMOUS)); break;
        case 'u': {
            void *p = (void *)(uintptr_t)number();
            put((unsigned)munmap(p, number()));
        } break;
        case 'r': { /* replaced by new memory at the same place */
            void *p = (void *)(uintptr_t)number();
            put((uintptr_t)mmap(p, number(), 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
        } break;
        case 'v': { /* moved and grown: address, old size, new size */
            void *p = (void *)(uintptr_t)number();
            size_t old = number();
            put((uintptr_t)mremap(p, old, number(), MREMAP_MAYMOVE));
        } break;
        case 'd': {
            void *p = (void *)(uintptr_t)number();
            put((unsigned)madvise(p, number(), MADV_DONTNEED));
        } break;
        case 'i': increment(); put(0); break;
        case 'l': put((unsigned char)*(volatile char *)(uintptr_t)number()); break;
        case 'b': put((uintptr_t)sbrk((intptr_t)number())); break;
        case 's': put(deep((long)number())); break;
        case 't': put(start_thread((void *)(uintptr_t)number())); break;
        case 'f': { const char *how = at++; forked(how); } break;
        case 'x': { char *args[] = {argv[0], NULL}; execv("/proc/self/exe", args); } break;
        case 'o': put((uintptr_t)line); break;
        case 'e': put((uintptr_t)&errno); break;
        case 'k': kill(getpid(), SIGKILL); break;
        case 'q': return 7;
        }
    }
    return 0;
}
"""


def build(folder: Path, *options: str, name: str = "writer") -> Path:
    """Compiles the program into `folder`."""
    source, program = folder / f"{name}.c", folder / name
    source.write_text(SOURCE)
    # z now: the loader writes no tables later, at the first call of each function.
    subprocess.run(
        [
            COMPILER,
            "-O1",
            "-w",
            "-Wl,-z,now",
            *options,
            str(source),
            "-o",
            str(program),
            "-pthread",
        ],
        check=True,
        capture_output=True,
    )
    return program


class Writer:
    """Talks to a running program over its pipes, of a `Popen` with text=True."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.pid = self.hear()

    def hear(self) -> int:
        line = self.process.stdout.readline()
        assert line, f"the program ended: {self.process.poll()}"
        return int(line)

    def say(self, command: str, *numbers: int) -> None:
        self.process.stdin.write(command + " ".join(map(str, numbers)) + "\n")
        self.process.stdin.flush()

    def ask(self, command: str, *numbers: int) -> int:
        self.say(command, *numbers)
        return self.hear()

    def map(self, nbytes: int) -> int:
        return self.ask("m", nbytes)

    def increment(self, *addresses: int) -> None:
        self.ask("i", *addresses)

    def own(self) -> set[int]:
        """Pages that it writes to do as it is told: around its line and its answer; errno, and
        behind it the thread's own data, where the kernel writes the number of its CPU (rseq)."""
        page, errno_page = self.ask("o") // 4096, self.ask("e") // 4096
        return {errno_page, errno_page + 1, *range(page - 2, page + 20)}
