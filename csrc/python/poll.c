/*
 * poll.c - signals during a long operation: what the engine asks is answered by Python's handlers.
 *
 * A handler runs in the main thread and may do anything, also call the bitmap that is being worked
 * on. When it raises, as that of Ctrl-C does, the operation ends, and the exception propagates.
 */
#include "binding.h"

#include <time.h>

/* An operation that runs without the interpreter takes it for a moment so often. The wait for it,
 * while other threads are busy in Python, is then a small part of the time. */
static const int64_t INTERVAL_NS = 10 * 1000 * 1000;

#if defined(_MSC_VER)
#define PER_THREAD __declspec(thread)
#else
#define PER_THREAD _Thread_local
#endif

/* The innermost operation of this thread that runs without the interpreter. */
static PER_THREAD struct {
    PyThreadState *thread; /* NULL where there is none */
    int64_t asked;         /* when this operation began, or last took the interpreter */
} detached;

static int64_t now_ns(void)
{
    struct timespec now;

    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void ib_poll_detached(PyThreadState *thread)
{
    detached.thread = thread;
    detached.asked = thread != NULL ? now_ns() : 0;
}

int ib_poll(void *context)
{
    PyThreadState *thread = detached.thread;
    (void)context;

    if (thread == NULL) {
        return PyErr_CheckSignals();
    }
    int64_t elapsed = now_ns() - detached.asked;
    if (elapsed >= 0 && elapsed < INTERVAL_NS) { /* less than 0: the clock was set back */
        return 0;
    }
    PyEval_RestoreThread(thread);
    ib_poll_detached(NULL); /* a handler may start operations of its own */
    int rc = PyErr_CheckSignals();
    ib_poll_detached(PyEval_SaveThread());
    return rc;
}
