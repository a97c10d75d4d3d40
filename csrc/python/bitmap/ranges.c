/*
 * ranges.c - questions whose answer is an array: ranges, iter_ranges, pages.
 */
#include "python/bitmap/bitmap.h"

#include <errno.h>

PyObject *ib_rows_array(struct ib_state *state, struct iova_bitmap_ranges *ranges)
{
    PyObject *memory = ib_memory_adopt(state, ranges->rows, ranges->count * sizeof(*ranges->rows),
                                       iova_bitmap_rows_free);

    return ib_array_of(state, memory, "=u8", ranges->count, 2);
}

/* Whether the buffer is an array of rows, as the engine writes them. -1 and BufferError. */
static int is_rows(const Py_buffer *view, struct ib_layout *layout)
{
    const char *format = view->format == NULL ? "B" : view->format;

    if (ib_foreign_check(view, true) < 0 || ib_foreign_layout(view, layout) < 0) {
        return -1;
    }
    format += *format == '@' || *format == '=';
    return layout->ndim == 2 && layout->shape[1] == 2 && layout->packed && view->itemsize == 8 &&
           (*format == 'L' || *format == 'Q') && (uintptr_t)view->buf % 8 == 0;
}

/* A caller's array for rows: 0, and the buffer to release; or -1. */
static int out_rows(PyObject *out, Py_buffer *view, struct iova_bitmap_ranges *ranges)
{
    struct ib_layout layout;

    if (PyObject_GetBuffer(out, view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE | PyBUF_FORMAT) < 0) {
        return -1;
    }
    int rows = is_rows(view, &layout);
    if (rows <= 0) {
        if (rows == 0) {
            PyErr_SetString(PyExc_ValueError,
                            "out must be a writable array of shape (n, 2) and type uint64");
        }
        PyBuffer_Release(view);
        return -1;
    }
    static struct iova_bitmap_range none; /* an address, where there is no room at all */
    ranges->rows = layout.shape[0] != 0 ? view->buf : &none;
    ranges->capacity = (uint64_t)layout.shape[0];
    return 0;
}

/* The first `count` rows of out. */
static PyObject *filled(PyObject *out, uint64_t count)
{
    PyObject *stop = PyLong_FromUnsignedLongLong(count);
    PyObject *slice = stop == NULL ? NULL : PySlice_New(NULL, stop, NULL);
    PyObject *part = slice == NULL ? NULL : PyObject_GetItem(out, slice);

    Py_XDECREF(stop);
    Py_XDECREF(slice);
    return part;
}

/* Runs the engine. 0 or -1. */
static int extract(struct ib_bitmap *self, uint64_t iova, uint64_t length, unsigned flags,
                   bool held, struct iova_bitmap_ranges *ranges)
{
    struct ib_call call = {.iova = iova, .length = length, .held = held};

    if (ib_call_begin(&call, self, NULL, ib_bitmap_bytes(self, length)) < 0) {
        return -1;
    }
    int rc = iova_bitmap_ranges(self->engine, iova, length, flags, ranges, &call.report);
    bool no_room = rc == -ENOSPC && call.report.length == 0;
    rc = ib_call_answer(&call, no_room ? 0 : rc);
    if (no_room) {
        PyErr_Format(PyExc_ValueError, "out has room for %llu rows, %llu are needed",
                     (unsigned long long)ranges->capacity, (unsigned long long)ranges->count);
        return -1;
    }
    return rc;
}

const char ib_doc_ranges[] =
    "ranges($self, /, iova=None, length=None, *, dirty=True, out=None)\n--\n\n"
    "The runs of dirty pages as an array of shape (n, 2), uint64, of rows (iova, length).\n\n"
    "Rows are in bytes of IOVA, ascending and maximal, and cut to the bitmap's range and to the\n"
    "range asked for.\n\n"
    "Parameters\n"
    "----------\n"
    "iova, length : int, optional\n"
    "    A part of the bitmap. An iova left out is the base, a length left out reaches to the\n"
    "    end.\n"
    "dirty : bool\n    False asks for the runs of clean pages.\n"
    "out : array of shape (m, 2), uint64, optional\n"
    "    Filled instead of a new array; its filled part is returned.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    Where out has too few rows: the number needed is named.\n"
    "IOVARangeError\n    Where the range is not all inside.\n"
    "PinError\n    Where memory could not be made readable.\n\n"
    "Examples\n"
    "--------\n"
    ">>> bm = IOVABitmap(0, 0x10000)\n"
    ">>> bm.set(0x1000, 0x2000)\n"
    ">>> bm.ranges().tolist()\n"
    "[[4096, 8192]]\n";

IB_METHOD(ranges)
{
    static const char *const names[] = {"iova", "length", "dirty", "out"};
    static const struct ib_signature signature = {"ranges", 0, 2, 4, names};
    PyObject *parsed[4];
    uint64_t iova, length;
    struct iova_bitmap_ranges ranges = {0};
    Py_buffer view = {0};

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0) {
        return NULL;
    }
    int dirty = parsed[2] == NULL ? 1 : PyObject_IsTrue(parsed[2]);
    PyObject *out = parsed[3] == Py_None ? NULL : parsed[3];
    if (dirty < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    int rc = ib_bitmap_optional_range(self, parsed[0], parsed[1], &iova, &length);
    if (rc == 0 && out != NULL) {
        rc = out_rows(out, &view, &ranges);
    }
    if (rc == 0) {
        rc = extract(self, iova, length, dirty ? 0 : IOVA_BITMAP_CLEAN, true, &ranges);
    }
    ib_bitmap_end(self);
    if (view.obj != NULL) {
        PyBuffer_Release(&view);
    }
    if (rc < 0) {
        return NULL;
    }
    return out != NULL ? filled(out, ranges.count) : ib_rows_array(self->state, &ranges);
}

const char ib_doc_pages[] =
    "pages($self, /, iova=None, length=None)\n--\n\n"
    "First address of each dirty page that the range touches, of shape (n,), uint64, ascending.\n\n"
    "Parameters and errors are those of count().\n";

IB_METHOD(pages)
{
    static const char *const names[] = {"iova", "length"};
    static const struct ib_signature signature = {"pages", 0, 2, 2, names};
    PyObject *parsed[2];
    uint64_t count = 0, *pages = NULL;
    struct ib_call call = {.held = true};

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 || ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    int rc = ib_bitmap_optional_range(self, parsed[0], parsed[1], &call.iova, &call.length);
    if (rc == 0) {
        ib_call_begin(&call, self, NULL, ib_bitmap_bytes(self, call.length));
        rc = iova_bitmap_pages(self->engine, call.iova, call.length, 0, &pages, &count,
                               &call.report);
        rc = ib_call_answer(&call, rc);
    }
    ib_bitmap_end(self);
    if (rc < 0) {
        return NULL;
    }
    PyObject *memory =
        ib_memory_adopt(self->state, pages, count * sizeof(*pages), iova_bitmap_rows_free);
    return ib_array_of(self->state, memory, "=u8", count, 0);
}

/* ---- iter_ranges() ---- */

struct range_iterator {
    PyObject_HEAD struct ib_bitmap *bitmap;
    uint64_t next;   /* first address not yet looked at */
    uint64_t length; /* bytes left from there */
    uint64_t batch;
    unsigned flags;
    uintptr_t busy; /* 1 while a batch is being read */
};

const char ib_doc_iter_ranges[] =
    "iter_ranges($self, /, iova=None, length=None, *, dirty=True, batch=65536)\n--\n\n"
    "Iterate over the rows of ranges() in arrays of at most `batch` rows.\n\n"
    "A run is never split. The bitmap is read as the iterator goes on. Errors are those of\n"
    "ranges(), and ValueError where another thread is within next() of the same iterator.\n";

IB_METHOD(iter_ranges)
{
    static const char *const names[] = {"iova", "length", "dirty", "batch"};
    static const struct ib_signature signature = {"iter_ranges", 0, 2, 4, names};
    PyObject *parsed[4];
    uint64_t iova, length, batch = 65536;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 || ib_bitmap_check(self) < 0 ||
        (parsed[3] != NULL && ib_u64(parsed[3], "batch", &batch) < 0)) {
        return NULL;
    }
    if (batch == 0 || batch > (uint64_t)PY_SSIZE_T_MAX / 16) {
        PyErr_Format(PyExc_ValueError, "batch must be 1 to %zd rows, not %llu", PY_SSIZE_T_MAX / 16,
                     (unsigned long long)batch);
        return NULL;
    }
    int dirty = parsed[2] == NULL ? 1 : PyObject_IsTrue(parsed[2]);
    if (dirty < 0 || ib_bitmap_optional_range(self, parsed[0], parsed[1], &iova, &length) < 0) {
        return NULL;
    }
    struct iova_bitmap_report none = {0};
    int rc = iova_bitmap_check_range(self->engine, iova, length, 0);
    if (rc < 0) { /* here, not at the first step */
        return ib_raise(self->state, ib_bitmap_geometry(self), rc, &none, iova, length);
    }
    PyTypeObject *type = self->state->range_iterator_type;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct range_iterator *iterator = (struct range_iterator *)alloc(type, 0);
    if (iterator != NULL) {
        iterator->bitmap = (struct ib_bitmap *)Py_NewRef((PyObject *)self);
        iterator->next = iova;
        iterator->length = length;
        iterator->batch = batch;
        iterator->flags = IOVA_BITMAP_PARTIAL | (dirty ? 0 : IOVA_BITMAP_CLEAN);
    }
    return (PyObject *)iterator;
}

/* At most a batch of rows in memory of their own, into ranges. 0 or -1. */
static int next_batch(struct range_iterator *self, struct iova_bitmap_ranges *ranges)
{
    uint64_t pages = (self->length >> ib_bitmap_geometry(self->bitmap)->pgshift) + 2;
    uint64_t most = pages / 2 + 1; /* runs there can be */

    ranges->capacity = most < self->batch ? most : self->batch;
    ranges->rows = PyMem_Malloc((size_t)ranges->capacity * sizeof(*ranges->rows));
    if (ranges->rows == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return extract(self->bitmap, self->next, self->length, self->flags, false, ranges);
}

static PyObject *next_array(struct range_iterator *self)
{
    struct iova_bitmap_ranges ranges = {0};

    if (self->length == 0 || next_batch(self, &ranges) < 0) {
        PyMem_Free(ranges.rows);
        return NULL;
    }
    uint64_t last = self->next + (self->length - 1);
    if (ranges.count == 0) {
        PyMem_Free(ranges.rows);
        self->length = 0;
        return NULL;
    }
    const struct iova_bitmap_range *row = &ranges.rows[ranges.count - 1];
    uint64_t row_last = row->iova + (row->length - 1);
    self->length = ranges.count < ranges.capacity ? 0 : last - row_last;
    self->next = row_last + 1;
    void *rows = PyMem_Realloc(ranges.rows, (size_t)ranges.count * sizeof(*ranges.rows));
    struct ib_state *state = self->bitmap->state;
    PyObject *memory = ib_memory_adopt(state, rows != NULL ? rows : ranges.rows,
                                       ranges.count * sizeof(*ranges.rows), PyMem_Free);
    return ib_array_of(state, memory, "=u8", ranges.count, 2);
}

/* One call at a time, as with a generator: each row comes once. */
static PyObject *range_iterator_next(struct range_iterator *self)
{
    if (!ib_shared_swap(&self->busy, 0, 1)) {
        PyErr_SetString(PyExc_ValueError, "the iterator is in use: another thread's next(), or one "
                                          "that a pin object was called from, has not returned");
        return NULL;
    }
    PyObject *array = next_array(self);
    ib_shared_swap(&self->busy, 1, 0);
    return array;
}

static int range_iterator_traverse(struct range_iterator *self, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)Py_TYPE((PyObject *)self));
    Py_VISIT((PyObject *)self->bitmap);
    return 0;
}

static void range_iterator_dealloc(struct range_iterator *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc tp_free = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(self);
    Py_XDECREF((PyObject *)self->bitmap);
    tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot range_iterator_slots[] = {
    {Py_tp_doc, "Iterator over batches of ranges."}, {Py_tp_dealloc, range_iterator_dealloc},
    {Py_tp_traverse, range_iterator_traverse},       {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, range_iterator_next},           {0, NULL},
};

PyType_Spec ib_range_iterator_spec = {
    .name = "iovabitmap._core._RangeIterator",
    .basicsize = sizeof(struct range_iterator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = range_iterator_slots,
};
