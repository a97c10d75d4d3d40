/*
 * bitmap_life.c - the life of a bitmap object: made over memory, held by the operations that run on
 * it, released when it is freed and the last of them has ended.
 */
#include "binding.h"

struct ib_bitmap *ib_bitmap_make(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages, PyObject *pin)
{
    struct iova_bitmap_options options = {.window_pages = window_pages};
    if (ib_pin_ops(pin, &options.pin) < 0) {
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
    options.pin_context = self;
    int rc =
        iova_bitmap_alloc(geometry->iova, geometry->length, geometry->page_size,
                          ib_memory_bytes(memory), ib_memory_size(memory), &options, &self->engine);
    if (rc < 0) { /* the geometry and the size were checked */
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

int ib_bitmap_check(struct ib_bitmap *self)
{
    if (self->freed) {
        PyErr_SetString(PyExc_ValueError, "operation on a freed IOVABitmap");
        return -1;
    }
    return 0;
}

static void release(struct ib_bitmap *self)
{
    PyObject *pending = ib_take_exception();

    if (self->engine != NULL) {
        iova_bitmap_release(self->engine);
    }
    Py_CLEAR(self->memory);
    ib_put_exception(pending, NULL);
}

int ib_bitmap_begin(struct ib_bitmap *self)
{
    if (ib_bitmap_check(self) < 0) {
        return -1;
    }
    self->running++;
    return 0;
}

void ib_bitmap_end(struct ib_bitmap *self)
{
    if (--self->running == 0 && self->freed) {
        release(self);
    }
}

int ib_bitmap_begin_both(struct ib_bitmap *self, struct ib_bitmap *other)
{
    if (ib_bitmap_begin(self) < 0) {
        return -1;
    }
    if (other != NULL && ib_bitmap_begin(other) < 0) {
        ib_bitmap_end(self);
        return -1;
    }
    return 0;
}

void ib_bitmap_end_both(struct ib_bitmap *self, struct ib_bitmap *other)
{
    if (other != NULL) {
        ib_bitmap_end(other);
    }
    ib_bitmap_end(self);
}

int ib_bitmap_check_type(struct ib_bitmap *self, PyObject *other, const char *name)
{
    if (!PyObject_TypeCheck(other, self->state->bitmap_type)) {
        PyErr_Format(PyExc_TypeError, "%s must be an IOVABitmap, not %R", name, Py_TYPE(other));
        return -1;
    }
    return 0;
}

/* Bytes of bitmap above which an operation lets other threads run meanwhile. */
enum { UNLOCK_BYTES = 1 << 14 };

PyThreadState *ib_bitmap_unlock(struct ib_bitmap *self, uint64_t bytes)
{
    return bytes >= UNLOCK_BYTES && PyUnicode_Check(self->pin) ? PyEval_SaveThread() : NULL;
}

PyThreadState *ib_bitmap_unlock_both(struct ib_bitmap *self, struct ib_bitmap *other,
                                     uint64_t bytes)
{
    return PyUnicode_Check(other->pin) ? ib_bitmap_unlock(self, bytes) : NULL;
}

void ib_bitmap_relock(PyThreadState *thread)
{
    if (thread != NULL) {
        PyEval_RestoreThread(thread);
    }
}

void ib_bitmap_free(struct ib_bitmap *self)
{
    if (!self->freed) {
        self->freed = true;
        if (self->running == 0) {
            release(self);
        }
    }
}
