/*
 * walk.c - walking windows: for_each, and windows() with its iterator.
 */
#include "python/bitmap/bitmap.h"

#include <errno.h>

/* One for_each call; what its callback returned last, where that ends the walk. */
struct walk {
    struct ib_call call;
    PyObject *fn;
    PyObject *opaque;
    PyObject *stopped; /* an int other than 0, or NULL */
};

/* Whether a callback's result ends the walk: by its value, and not by what a subclass of int says
 * of its truth. -1 and an exception. */
static int is_end(PyObject *result)
{
    int overflow = 0;

    if (result == Py_None) {
        return 0;
    }
    if (!PyLong_Check(result)) {
        PyErr_Format(PyExc_TypeError, "the callback must return None or an int, not %R",
                     Py_TYPE(result));
        return -1;
    }
    return PyLong_AsLongLongAndOverflow(result, &overflow) != 0 || overflow != 0;
}

/* 0 to go on; else the walk ends, with walk->stopped or an exception. */
static int call_back(struct walk *walk, uint64_t iova, uint64_t length)
{
    struct ib_bitmap *self = walk->call.bitmap;
    PyObject *result =
        PyObject_CallFunction(walk->fn, "OKKO", (PyObject *)self, (unsigned long long)iova,
                              (unsigned long long)length, walk->opaque);
    int end = result == NULL ? -1 : is_end(result);

    if (end > 0) {
        walk->stopped = result;
        return 1;
    }
    Py_XDECREF(result);
    if (end < 0) {
        return -ECANCELED;
    }
    if (iova + (length - 1) == ib_bitmap_geometry(self)->last) {
        return 0;
    }
    /* A callback in C answers no signals; and it may have freed the bitmap. */
    return PyErr_CheckSignals() < 0 || ib_bitmap_check(self) < 0 ? -ECANCELED : 0;
}

/* The engine's: the callback does not have the present window. */
static int call(struct iova_bitmap *engine, uint64_t iova, uint64_t length, void *opaque)
{
    struct walk *walk = opaque;
    (void)engine;

    ib_present_end(&walk->call.present);
    int rc = call_back(walk, iova, length);
    ib_present_begin(&walk->call.present, walk->call.bitmap);
    return rc;
}

const char ib_doc_for_each[] =
    "for_each($self, /, fn, opaque=None, *, by_window=False)\n--\n\n"
    "Call fn(bitmap, iova, length, opaque) with the whole range, or for each window.\n\n"
    "Parameters\n"
    "----------\n"
    "fn : callable\n"
    "    None or 0 means go on, another int ends the walk. It may use, walk and free the bitmap.\n"
    "opaque : object\n    Handed to fn.\n"
    "by_window : bool\n"
    "    Call once for each window in ascending order, which is pinned and is bm.window during\n"
    "    the call. The last one stays.\n\n"
    "Returns\n"
    "-------\n"
    "int\n    What fn ended the walk with, or 0.\n\n"
    "Raises\n"
    "------\n"
    "PinError\n    Its iova and length were not walked.\n"
    "TypeError\n    Where fn returns neither None nor an int.\n\n"
    "Examples\n"
    "--------\n"
    ">>> bm = IOVABitmap(0, 0x10000)\n"
    ">>> bm.for_each(lambda bm, iova, length, opaque: bm.set(iova, length))\n"
    "0\n";

IB_METHOD(for_each)
{
    static const char *const names[] = {"fn", "opaque", "by_window"};
    static const struct ib_signature signature = {"for_each", 1, 2, 3, names};
    PyObject *parsed[3];

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0) {
        return NULL;
    }
    if (!PyCallable_Check(parsed[0])) {
        PyErr_Format(PyExc_TypeError, "fn must be callable, not %R", Py_TYPE(parsed[0]));
        return NULL;
    }
    int by_window = parsed[2] == NULL ? 0 : PyObject_IsTrue(parsed[2]);
    struct walk walk = {.fn = parsed[0], .opaque = parsed[1] == NULL ? Py_None : parsed[1]};
    if (by_window < 0 || ib_call_begin_present(&walk.call, self) < 0) {
        return NULL;
    }
    int rc = by_window ? iova_bitmap_for_each_window(self->engine, &walk, call, &walk.call.report)
                       : iova_bitmap_for_each(self->engine, &walk, call);
    bool raised = rc == -ECANCELED && walk.call.report.length == 0; /* by the callback */
    rc = ib_call_end(&walk.call, raised ? 0 : rc);
    if (rc < 0 || raised) {
        return NULL;
    }
    return walk.stopped != NULL ? walk.stopped : PyLong_FromLong(0);
}

/* ---- windows() ---- */

struct window_iterator {
    PyObject_HEAD struct ib_bitmap *bitmap;
    uint64_t next;  /* first bitmap byte of the next window */
    ib_guard guard; /* of next */
};

const char ib_doc_windows[] =
    "windows($self, /)\n--\n\n"
    "Iterate over the Windows of an ascending walk when every pin delivers in full.\n\n"
    "Arithmetic only: nothing is pinned.\n";

IB_METHOD_NOARGS(windows)
{
    (void)unused;
    if (ib_bitmap_check(self) < 0) {
        return NULL;
    }
    PyTypeObject *type = self->state->window_iterator_type;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct window_iterator *iterator = (struct window_iterator *)alloc(type, 0);
    if (iterator != NULL) {
        iterator->bitmap = (struct ib_bitmap *)Py_NewRef((PyObject *)self);
    }
    return (PyObject *)iterator;
}

static PyObject *window_iterator_next(struct window_iterator *self)
{
    struct iova_bitmap_window window;
    struct ib_bitmap *bitmap = self->bitmap;

    if (ib_bitmap_check(bitmap) < 0) {
        return NULL;
    }
    IB_GUARD_LOCK(&self->guard);
    bool more = self->next < ib_bitmap_geometry(bitmap)->nbytes;
    if (more) {
        iova_bitmap_window_at(bitmap->engine, self->next, &window);
        self->next += iova_bitmap_window_nbytes(bitmap->engine, &window);
    }
    IB_GUARD_UNLOCK(&self->guard);
    return more ? ib_window(bitmap->state, &window) : NULL;
}

static int window_iterator_traverse(struct window_iterator *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)Py_TYPE((PyObject *)self));
    Py_VISIT((PyObject *)self->bitmap);
    return 0;
}

static void window_iterator_dealloc(struct window_iterator *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc tp_free = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(self);
    Py_XDECREF((PyObject *)self->bitmap);
    tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot window_iterator_slots[] = {
    {Py_tp_doc, "Iterator over the windows of a bitmap."},
    {Py_tp_dealloc, window_iterator_dealloc},
    {Py_tp_traverse, window_iterator_traverse},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, window_iterator_next},
    {0, NULL},
};

PyType_Spec ib_window_iterator_spec = {
    .name = "iovabitmap._core._WindowIterator",
    .basicsize = sizeof(struct window_iterator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = window_iterator_slots,
};
