/*
 * shared.h - a word that threads share, and a lock around a few loads and stores.
 *
 * Under the GIL plain loads and stores are enough; a free-threaded interpreter needs atomic ones.
 */
#ifndef IB_SHARED_H
#define IB_SHARED_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED

static inline uintptr_t ib_shared_get(const uintptr_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* *word = value if it is `expected`; whether it was. */
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

/* *word += more, which may be negative as a number of that size; what it was before. */
static inline uintptr_t ib_shared_add(uintptr_t *word, uintptr_t more)
{
    uintptr_t before;

    do {
        before = ib_shared_get(word);
    } while (!ib_shared_swap(word, before, before + more));
    return before;
}

#ifdef Py_GIL_DISABLED

#ifdef _WIN32
#include <windows.h>
#define IB_YIELD() SwitchToThread()
#else
#include <sched.h>
#define IB_YIELD() sched_yield()
#endif

/*
 * Its holder does not let go of the interpreter. So nobody is stopped for a fork() in between, and
 * a child never finds it held by a thread that it does not have. A PyMutex may be handed to a
 * thread that waits for it while that is stopped.
 */
typedef uintptr_t ib_guard;

static inline void ib_guard_lock(ib_guard *guard)
{
    while (!ib_shared_swap(guard, 0, 1)) {
        IB_YIELD();
    }
}

#define IB_GUARD_LOCK(guard) ib_guard_lock(guard)
#define IB_GUARD_UNLOCK(guard) ib_shared_swap(guard, 1, 0)

#else

typedef char ib_guard; /* the GIL is one */
#define IB_GUARD_LOCK(guard) ((void)(guard))
#define IB_GUARD_UNLOCK(guard) ((void)(guard))

#endif

#endif
