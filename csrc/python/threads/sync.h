/*
 * sync.h - what threads share of a bitmap object, and in which order they use it.
 *
 * Under the GIL plain loads and stores are enough; a free-threaded interpreter needs atomic ones.
 * Nothing here is held while Python code runs, so that a callback can use any bitmap, and so that
 * there is no order in which two bitmaps must be locked.
 */
#ifndef IB_SYNC_H
#define IB_SYNC_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#if defined(_MSC_VER)
#define IB_PER_THREAD __declspec(thread)
#else
#define IB_PER_THREAD _Thread_local
#endif

/* ---- a word that threads share ---- */

#if defined(Py_GIL_DISABLED) && defined(_MSC_VER)
#include <intrin.h>

static inline uintptr_t ib_shared_get(const uintptr_t *word)
{
    return *(const volatile uintptr_t *)word;
}

static inline bool ib_is_locked(PyMutex *mutex)
{
    return (*(const volatile uint8_t *)&mutex->_bits & 1) != 0;
}

static inline bool ib_shared_swap(uintptr_t *word, uintptr_t expected, uintptr_t value)
{
    return (uintptr_t)_InterlockedCompareExchangePointer((void *volatile *)word, (void *)value,
                                                         (void *)expected) == expected;
}

#elif defined(Py_GIL_DISABLED)

static inline uintptr_t ib_shared_get(const uintptr_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline bool ib_is_locked(PyMutex *mutex)
{
    return (__atomic_load_n(&mutex->_bits, __ATOMIC_ACQUIRE) & 1) != 0;
}

/* *word = value where it is `expected`; whether it was. */
static inline bool ib_shared_swap(uintptr_t *word, uintptr_t expected, uintptr_t value)
{
    return __atomic_compare_exchange_n(word, &expected, value, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

#else

static inline uintptr_t ib_shared_get(const uintptr_t *word)
{
    return *word;
}

static inline bool ib_shared_swap(uintptr_t *word, uintptr_t expected, uintptr_t value)
{
    bool same = *word == expected;

    if (same) {
        *word = value;
    }
    return same;
}

#endif

/* *word = value, where nobody else writes it at the same time. */
static inline void ib_shared_put(uintptr_t *word, uintptr_t value)
{
    ib_shared_swap(word, ib_shared_get(word), value);
}

/* *word += more, which may be negative as a number of that size; what it was before. */
static inline uintptr_t ib_shared_add(uintptr_t *word, uintptr_t more)
{
    uintptr_t before;

    do {
        before = ib_shared_get(word);
    } while (!ib_shared_swap(word, before, before + more));
    return before;
}

/* ---- a lock around a few loads and stores ---- */

#ifdef Py_GIL_DISABLED

#ifdef _WIN32
#include <windows.h>
#define IB_YIELD() SwitchToThread()
#else
#include <sched.h>
#define IB_YIELD() sched_yield()
#endif

/*
 * Whoever holds it does not let go of the interpreter meanwhile. So nobody is stopped for a fork()
 * in between, and a child never finds it held by a thread that it does not have. A PyMutex may be
 * handed to a thread that waits for it while that is stopped.
 */
typedef uintptr_t ib_guard;

static inline void ib_guard_lock(ib_guard *guard)
{
    while (!ib_shared_swap(guard, 0, 1)) {
        IB_YIELD();
    }
}

#define IB_GUARD_LOCK(guard) ib_guard_lock(guard)
#define IB_GUARD_UNLOCK(guard) ib_shared_put(guard, 0)
#else
typedef char ib_guard; /* the GIL is one */
#define IB_GUARD_LOCK(guard) ((void)(guard))
#define IB_GUARD_UNLOCK(guard) ((void)(guard))
#endif

/* ---- waiting, without the GIL, for what another thread will do ---- */

struct ib_waiter;

struct ib_queue {
    ib_guard guard;
    int process; /* whose threads wait: a child of fork() has none of them, nor their stacks */
    struct ib_waiter *first;
};

/* The number of this process. */
int ib_process(void);

/* Waits until done(context) has been true once: it is asked under the guard, first by the caller
 * and then in each wake, of those who wait in their order. It may take what was waited for: nobody
 * comes between. 0, or -1 and the exception of a signal's handler, MemoryError, or RuntimeError in
 * a child that the handler forked; done may have been true by then. */
int ib_queue_wait(struct ib_queue *queue, bool (*done)(void *context), void *context);

/* To be called when what may be waited for has happened. */
void ib_queue_wake(struct ib_queue *queue);

#endif
