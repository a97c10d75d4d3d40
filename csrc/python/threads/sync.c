/*
 * sync.c - waiting for another thread. Each waiter blocks
 * on a lock of its own, which whoever brings about what all wait for releases.
 */
#include "python/threads/threads.h"

struct ib_waiter {
    struct ib_waiter *next;
    PyThread_type_lock lock; /* held until it is done */
};

/* Of a parent's waiters nothing may be touched, not even to see whose they are. */
static void forget_the_parents(struct ib_queue *queue)
{
    if (queue->process != iova_process_generation()) {
        queue->process = iova_process_generation();
        queue->first = NULL;
    }
}

/* True where there is something to wait for: then the waiter is in the queue. */
static bool join(struct ib_queue *queue, struct ib_waiter *waiter, bool (*done)(void *),
                 void *context)
{
    IB_GUARD_LOCK(&queue->guard);
    forget_the_parents(queue);
    bool wait = !done(context);
    if (wait) {
        waiter->next = queue->first;
        queue->first = waiter;
    }
    IB_GUARD_UNLOCK(&queue->guard);
    return wait;
}

/* Out of the queue, where it was not taken out of it meanwhile: then its lock is free. */
static void leave(struct ib_queue *queue, const struct ib_waiter *waiter)
{
    IB_GUARD_LOCK(&queue->guard);
    forget_the_parents(queue);
    struct ib_waiter **link = &queue->first;
    while (*link != NULL && *link != waiter) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = waiter->next;
        PyThread_release_lock(waiter->lock);
    }
    IB_GUARD_UNLOCK(&queue->guard);
}

void ib_queue_wake(struct ib_queue *queue)
{
    IB_GUARD_LOCK(&queue->guard);
    forget_the_parents(queue);
    while (queue->first != NULL) {
        struct ib_waiter *waiter = queue->first;
        queue->first = waiter->next; /* the waiter may be gone as soon as its lock is free */
        PyThread_release_lock(waiter->lock);
    }
    IB_GUARD_UNLOCK(&queue->guard);
}

/* Blocks until the waiter is done: 0, or -1 and the exception of a signal's handler. */
static int block(struct ib_queue *queue, struct ib_waiter *waiter)
{
    PyLockStatus status;
    const uint64_t process = iova_process_generation();

    do {
        int rc = PyErr_CheckSignals();
        if (rc == 0 && process != iova_process_generation()) {
            PyErr_SetString(PyExc_RuntimeError,
                            "forked while waiting for a thread that the child does not have");
            rc = -1;
        }
        if (rc < 0) {
            leave(queue, waiter);
            return -1;
        }
        PyThreadState *thread = PyEval_SaveThread();
        status = PyThread_acquire_lock_timed(waiter->lock, -1, 1);
        PyEval_RestoreThread(thread);
    } while (status != PY_LOCK_ACQUIRED);
    PyThread_release_lock(waiter->lock);
    return 0;
}

int ib_queue_wait(struct ib_queue *queue, bool (*done)(void *context), void *context)
{
    struct ib_waiter waiter = {NULL, PyThread_allocate_lock()};
    int rc = 0;

    if (waiter.lock == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyThread_acquire_lock(waiter.lock, WAIT_LOCK); /* it is free */
    if (join(queue, &waiter, done, context)) {
        rc = block(queue, &waiter);
    } else {
        PyThread_release_lock(waiter.lock);
    }
    PyThread_free_lock(waiter.lock);
    return rc;
}
