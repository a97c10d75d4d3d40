/*
 * signals.c - signals during a long operation: what the engine asks is answered by Python's
 * handlers.
 *
 * A handler runs in the main thread and may do anything, also call the bitmap that is being worked
 * on. When it raises, as that of Ctrl-C does, the operation ends, and the exception propagates.
 */
#include "python/threads/threads.h"

#include "core/bits/atomic.h"

#include <time.h>

/* An operation that runs without the interpreter takes it for a moment so often. The wait for it,
 * while other threads are busy in Python, is then a small part of the time. */
static uint64_t interval_ns = 10 * 1000 * 1000;

const char ib_doc_signal_interval[] =
    "_signal_interval($module, ns, /)\n--\n\n"
    "Sets how often, in nanoseconds, an operation without the GIL looks for signals; tells how\n"
    "often it was until now. With 0 it looks whenever the engine asks, however fast the machine.\n";

PyObject *ib_signal_interval(PyObject *module, PyObject *ns)
{
    uint64_t wanted = PyLong_AsUnsignedLongLong(ns);
    (void)module;

    if (wanted == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(iova_atomic_exchange64(&interval_ns, wanted));
}

/* The innermost operation of this thread that runs without the interpreter. */
static _Thread_local struct {
    PyThreadState *thread; /* NULL where there is none */
    int64_t asked;         /* when this operation began, or last took the interpreter */
} detached;

static int64_t now_ns(void)
{
    struct timespec now;

    timespec_get(&now, TIME_UTC);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

PyThreadState *ib_unlock(void)
{
    detached.thread = PyEval_SaveThread();
    detached.asked = now_ns();
    return detached.thread;
}

void ib_relock(PyThreadState *thread)
{
    detached.thread = NULL; /* a handler may start operations of its own */
    PyEval_RestoreThread(thread);
}

int ib_poll(void *context)
{
    PyThreadState *thread = detached.thread;
    (void)context;

    if (thread == NULL) {
        return PyErr_CheckSignals();
    }
    int64_t elapsed = now_ns() - detached.asked;
    bool clock_set_back = elapsed < 0;
    if (!clock_set_back && (uint64_t)elapsed < iova_atomic_load64(&interval_ns)) {
        return 0;
    }
    ib_relock(thread);
    int rc = PyErr_CheckSignals();
    ib_unlock();
    return rc;
}
