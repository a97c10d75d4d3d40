/*
 * threads.h - the bitmap object as threads see it: operations begin and end on it, may run without
 * the interpreter meanwhile, answer signals, and are waited for by free().
 *
 * No lock is held while Python code waits, so that a callback can use any bitmap, and so that there
 * is no order in which two bitmaps must be locked.
 */
#ifndef IB_THREADS_H
#define IB_THREADS_H

#include "core/pin/host.h"
#include "python/exchange/exchange.h"

/* ---- waiting, without the GIL, for what another thread will do (sync.c) ---- */

struct ib_waiter;

struct ib_queue {
    ib_guard guard;
    uint64_t process; /* whose threads wait: a child of fork() has none of them, nor their stacks */
    struct ib_waiter *first;
};

/* Waits until done(context), which is asked under the guard, so that no wake is missed. 0, or -1
 * and the exception of a signal's handler, MemoryError, or RuntimeError in a child that the handler
 * forked; done may be true by then. */
int ib_queue_wait(struct ib_queue *queue, bool (*done)(void *context), void *context);
/* To be called when what all wait for has happened. */
void ib_queue_wake(struct ib_queue *queue);

/* ---- signals during a long operation (signals.c) ---- */

/* The engine's poll: runs the handlers of signals that came, -1 and an exception where one raises.
 * Without the interpreter too, in an operation between unlock and relock. */
int ib_poll(void *context);
PyThreadState *ib_unlock(void);
void ib_relock(PyThreadState *thread);

extern const char ib_doc_signal_interval[];
PyObject *ib_signal_interval(PyObject *module, PyObject *ns);

/* ---- the bitmap object (life.c) ---- */

struct ib_bitmap {
    PyObject_HEAD PyObject *weakrefs;
    struct ib_state *state;     /* of the module that the type belongs to, which it keeps alive */
    struct iova_bitmap *engine; /* NULL only where making it failed */
    PyObject *memory;           /* NULL once released */
    PyObject *pin;              /* a str, or the pin object */
    uintptr_t uses;             /* IB_USE for each operation in progress, and what follows */
    struct ib_queue queue;      /* who waits for the release */
    uint64_t quick_length;      /* marking fewer bytes of IOVA runs no Python code */
    uint64_t process;           /* that made it: iova_process_generation() */
};

/* Of ib_bitmap.uses. Once freed no operation begins; the one that ends last releases. */
enum { IB_FREED = 1, IB_RELEASED = 2, IB_USE = 4 };

/* Operations of this thread in progress, on any bitmaps. */
#if defined(__GLIBC__)
extern _Thread_local __attribute__((tls_model("initial-exec"))) unsigned ib_depth;
#else
extern _Thread_local unsigned ib_depth;
#endif

/* A new bitmap of `type` over a memory object (of the type above). window_pages 0: the default. */
struct ib_bitmap *ib_bitmap_make(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages, PyObject *pin);
/* The same with pin="none", as copies have. */
struct ib_bitmap *ib_bitmap_over(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages);

static inline bool ib_bitmap_is_freed(const struct ib_bitmap *self)
{
    return (ib_shared_get(&self->uses) & IB_FREED) != 0;
}

static inline bool ib_bitmap_has_pin_object(const struct ib_bitmap *self)
{
    return !PyUnicode_Check(self->pin);
}

static inline const struct iova_bitmap_geometry *ib_bitmap_geometry(const struct ib_bitmap *self)
{
    return iova_bitmap_geometry(self->engine);
}

/* Bytes of bitmap that so many bytes of IOVA stand for, rounded down. */
static inline uint64_t ib_bitmap_bytes(const struct ib_bitmap *self, uint64_t length)
{
    return length >> ib_bitmap_geometry(self)->pgshift >> 3;
}

/* ValueError; -1. */
int ib_raise_freed(void);

/* -1 and ValueError on a freed bitmap. */
static inline int ib_bitmap_check(const struct ib_bitmap *self)
{
    return ib_bitmap_is_freed(self) ? ib_raise_freed() : 0;
}

/* Lets go of window and memory, once, where no operation is running. Keeps the exception. */
void ib_bitmap_release(struct ib_bitmap *self);

/* What uses the engine or the memory stands between begin (0, or -1 and ValueError) and end: they
 * stay until the last has ended, whoever frees the bitmap meanwhile. */
static inline int ib_bitmap_begin(struct ib_bitmap *self)
{
    uintptr_t uses;

    do {
        uses = ib_shared_get(&self->uses);
        if ((uses & IB_FREED) != 0) {
            return ib_raise_freed();
        }
    } while (!ib_shared_swap(&self->uses, uses, uses + IB_USE));
    ib_depth++;
    return 0;
}

/* Once more within begin and end: also where it was freed since. */
static inline void ib_bitmap_hold(struct ib_bitmap *self)
{
    ib_shared_add(&self->uses, IB_USE);
    ib_depth++;
}

static inline void ib_bitmap_end(struct ib_bitmap *self)
{
    ib_depth--;
    if (ib_shared_add(&self->uses, (uintptr_t)0 - IB_USE) == IB_USE + IB_FREED) {
        ib_bitmap_release(self);
    }
}

/* free(): new operations fail from now on. Waits for those of other threads; called from within an
 * operation of this thread it does not, and the last one releases. 0, or -1 where the wait ended in
 * an exception: the rest takes its course all the same. */
int ib_bitmap_free(struct ib_bitmap *self);
/* The same without ever waiting, for the collector. */
void ib_bitmap_drop(struct ib_bitmap *self);

/* ---- the present window ---- */

/*
 * The engine uses the present window between these two, within begin and end, and keeps the
 * interpreter: other threads come between only where Python code runs, of a signal's handler or a
 * pin object, and the engine is ready for that. Without a GIL a critical section does the same.
 */
struct ib_present {
#ifdef Py_GIL_DISABLED
    PyCriticalSection section;
#else
    char unused;
#endif
};

static inline void ib_present_begin(struct ib_present *present, struct ib_bitmap *self)
{
#ifdef Py_GIL_DISABLED
    /* A thread that fork() left behind may have the object's own lock: all inherited ones then
     * share that of an object which nobody else locks. */
    PyObject *inherited = self->state->restore;
    PyCriticalSection_Begin(&present->section, self->process == iova_process_generation()
                                                   ? (PyObject *)self
                                                   : inherited);
#else
    (void)present, (void)self;
#endif
}

static inline void ib_present_end(struct ib_present *present)
{
#ifdef Py_GIL_DISABLED
    PyCriticalSection_End(&present->section);
#else
    (void)present;
#endif
}

/* ---- one call of the engine (call.c) ---- */

/*
 *     struct ib_call call = {.iova = iova, .length = length};
 *
 *     if (ib_call_begin(&call, self, NULL, bytes) < 0) {
 *         return NULL;
 *     }
 *     int rc = iova_bitmap_...(self->engine, ..., &call.report);
 *     if (ib_call_end(&call, rc) < 0) {
 *         return NULL;
 *     }
 */
struct ib_call {
    uint64_t iova; /* the range that was asked for, for its error; that of all is not needed */
    uint64_t length;
    bool held; /* the caller stands between begin and end: freeing since then does not matter */
    struct iova_bitmap_report report;
    struct ib_bitmap *bitmap;
    struct ib_bitmap *other;
    PyThreadState *thread; /* NULL where the interpreter was not let go */
    struct ib_present present;
    bool is_present;
};

/* The engine runs without the interpreter from so many bytes of bitmap on, if no pin is a Python
 * object. */
enum { IB_UNLOCK_BYTES = 1 << 14 };

/* For a call in windows of its own that touches `bytes` of bitmap, on one bitmap or on two. 0, or
 * -1 and ValueError where either is freed. */
int ib_call_begin(struct ib_call *call, struct ib_bitmap *self, struct ib_bitmap *other,
                  uint64_t bytes);
/* For one through the present window. */
int ib_call_begin_present(struct ib_call *call, struct ib_bitmap *self);
/* With the engine's result: raises what a negative one means. The result, or -1. */
int ib_call_end(struct ib_call *call, int rc);
/* The same for a question: it records nothing, whatever it had counted. */
int ib_call_answer(struct ib_call *call, int rc);

#endif
