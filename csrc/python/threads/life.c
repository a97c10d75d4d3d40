/*
 * life.c - the life of a bitmap object: made over memory, held by the operations that run on it,
 * released when it is freed and the last of them has ended.
 *
 * A thread that is within an operation never waits in free(), be it of the same bitmap or another:
 * so those who wait are never waited for, and two threads that free each other's bitmaps from
 * callbacks go on.
 */
#include <errno.h>

#include "python/threads/threads.h"

_Thread_local unsigned ib_depth;

/* Bytes of IOVA whose marking the engine does not ask about: those of a few bytes of bitmap. */
static uint64_t quick_length(const struct iova_bitmap_geometry *geometry)
{
    const uint64_t pages = (uint64_t)IB_UNLOCK_BYTES * 8;

    return geometry->page_size > UINT64_MAX / pages ? UINT64_MAX : geometry->page_size * pages;
}

struct ib_bitmap *ib_bitmap_make(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages, PyObject *pin)
{
    struct iova_bitmap_options options = {.window_pages = window_pages, .poll = ib_poll};
    if (ib_pin_options(pin, &options) < 0) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct ib_bitmap *self = (struct ib_bitmap *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->memory = Py_NewRef(memory);
    self->pin = Py_NewRef(pin);
    self->process = iova_process_generation();
    self->quick_length = PyUnicode_Check(pin) ? quick_length(geometry) : 0;
    int rc =
        iova_bitmap_alloc(geometry->iova, geometry->length, geometry->page_size,
                          ib_memory_bytes(memory), ib_memory_size(memory), &options, &self->engine);
    if (rc == -EINVAL) { /* the geometry and the size were checked */
        char text[96];
        PyOS_snprintf(text, sizeof(text), "data of 0x%llx bytes at 0x%llx does not end below 2**%u",
                      (unsigned long long)ib_memory_size(memory),
                      (unsigned long long)(uintptr_t)ib_memory_bytes(memory),
                      (unsigned)(8 * sizeof(void *)));
        PyErr_SetString(PyExc_ValueError, text);
        Py_CLEAR(self);
    } else if (rc < 0) {
        PyErr_NoMemory();
        Py_CLEAR(self);
    }
    return self;
}

struct ib_bitmap *ib_bitmap_over(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages)
{
    PyObject *none = PyUnicode_InternFromString("none");
    struct ib_bitmap *made = NULL;

    if (none != NULL) {
        made = ib_bitmap_make(type, state, geometry, memory, window_pages, none);
        Py_DECREF(none);
    }
    return made;
}

int ib_raise_freed(void)
{
    PyErr_SetString(PyExc_ValueError, "operation on a freed IOVABitmap");
    return -1;
}

/* ---- freeing ---- */

void ib_bitmap_release(struct ib_bitmap *self)
{
    PyObject *pending = ib_take_exception();

    ib_depth++; /* unpin() of a pin object may free bitmaps too: it must not wait for itself */
    if (self->engine != NULL) {
        iova_bitmap_release(self->engine);
    }
    ib_memory_let_go(&self->memory);
    ib_depth--;
    ib_shared_add(&self->uses, IB_RELEASED);
    ib_queue_wake(&self->queue);
    ib_put_exception(pending, NULL);
}

void ib_bitmap_drop(struct ib_bitmap *self)
{
    uintptr_t uses;

    do {
        uses = ib_shared_get(&self->uses);
        if ((uses & IB_FREED) != 0) {
            return;
        }
    } while (!ib_shared_swap(&self->uses, uses, uses | IB_FREED));
    if (uses == 0) {
        ib_bitmap_release(self);
    }
}

static bool is_released(void *self)
{
    return (ib_shared_get(&((struct ib_bitmap *)self)->uses) & IB_RELEASED) != 0;
}

/* At the end of the interpreter its other threads are stopped where they are. */
static bool is_finalizing(void)
{
    PyObject *function = PySys_GetObject("is_finalizing"); /* borrowed */
    PyObject *answer = function == NULL ? NULL : PyObject_CallNoArgs(function);
    bool finalizing = answer != Py_False;

    PyErr_Clear();
    Py_XDECREF(answer);
    return finalizing;
}

/* Whether the operations in progress are all of threads that go on, and none of this one. A child
 * of fork() has only the thread that forked. */
static bool may_wait(const struct ib_bitmap *self)
{
    return ib_depth == 0 && self->process == iova_process_generation() && !is_finalizing();
}

int ib_bitmap_free(struct ib_bitmap *self)
{
    ib_bitmap_drop(self);
    if (is_released(self) || !may_wait(self)) {
        return 0;
    }
    return ib_queue_wait(&self->queue, is_released, self);
}
