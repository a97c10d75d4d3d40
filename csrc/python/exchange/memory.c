/*
 * memory.c - the type _Memory: the bytes behind a bitmap or an array, kept by whoever uses
 * them.
 *
 * It holds the caller's memory by one Py_buffer, or memory of its own, and exports it as plain
 * bytes. A bitmap and the arrays made by view() share one of these, so the caller's memory is held
 * until the last of them is gone, however often it is viewed: some exporters do not count exports
 * atomically.
 */
#include "python/exchange/exchange.h"

struct memory {
    PyObject_HEAD uint8_t *bytes;
    uint64_t size;
    Py_buffer source; /* source.obj is NULL where the memory is not a caller's */
    void *owned;      /* what `release` gives back, or NULL */
    void (*release)(void *);
    bool lent; /* an array stands over it, which holds this object */
};

static struct memory *make(struct ib_state *state)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(state->memory_type, Py_tp_alloc);
    return (struct memory *)alloc(state->memory_type, 0);
}

/* What the exporter raised becomes the cause of a BufferError. */
static void refuse(const char *needed)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyObject *cause = ib_take_exception();
        PyErr_Format(PyExc_BufferError, "data must be %s: %S", needed, cause);
        ib_put_exception(ib_take_exception(), cause);
        Py_DECREF(cause);
    }
}

/* Strides say more than what the exporter was asked for: -1 and BufferError where they tell gaps.
 */
static int check_contiguous(const Py_buffer *view)
{
    if (view->shape != NULL && view->strides != NULL && !PyBuffer_IsContiguous(view, 'A')) {
        PyErr_SetString(PyExc_BufferError, "data must be contiguous memory");
        return -1;
    }
    return 0;
}

PyObject *ib_memory_from_object(struct ib_state *state, PyObject *object, bool writable)
{
    int flags = PyBUF_ANY_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);

    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_TypeError, "data must support the buffer protocol, not %R",
                     Py_TYPE(object));
        return NULL;
    }
    struct memory *self = make(state);
    if (self == NULL) {
        return NULL;
    }
    /* The format tells memory of Python objects, in which no bit may be written. Exporters that
     * cannot state one (NumPy's dates) are asked without. */
    if (PyObject_GetBuffer(object, &self->source, flags | PyBUF_FORMAT) < 0) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            Py_DECREF(self);
            return NULL;
        }
        PyErr_Clear();
        if (PyObject_GetBuffer(object, &self->source, flags) < 0) {
            refuse(writable ? "writable, contiguous memory" : "contiguous memory");
            Py_DECREF(self);
            return NULL;
        }
    }
    if (ib_foreign_check(&self->source, writable) < 0 || check_contiguous(&self->source) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    if (ib_format_has_objects(self->source.format)) {
        PyErr_SetString(PyExc_BufferError, "data must be plain memory, not references to objects");
        Py_DECREF(self);
        return NULL;
    }
    self->bytes = self->source.buf;
    self->size = (uint64_t)self->source.len;
    return (PyObject *)self;
}

PyObject *ib_memory_zeroed(struct ib_state *state, uint64_t size)
{
    uint64_t page = iova_bitmap_host_page_size();
    uint64_t spare = size >= page ? page - 1 : 0; /* to begin at a page */

    if (size > (uint64_t)PY_SSIZE_T_MAX - spare) {
        return PyErr_NoMemory();
    }
    uint8_t *owned = PyMem_Calloc(1, (size_t)(size + spare));
    if (owned == NULL) {
        return PyErr_NoMemory();
    }
    struct memory *self = (struct memory *)ib_memory_adopt(state, owned, size, PyMem_Free);
    if (self != NULL && spare != 0) {
        self->bytes = owned + (-(uintptr_t)owned & (page - 1));
    }
    return (PyObject *)self;
}

PyObject *ib_memory_adopt(struct ib_state *state, void *bytes, uint64_t size,
                          void (*release)(void *))
{
    struct memory *self = make(state);

    if (self == NULL) {
        release(bytes);
        return NULL;
    }
    self->bytes = bytes;
    self->size = size;
    self->owned = bytes;
    self->release = release;
    return (PyObject *)self;
}

void ib_memory_give(PyObject *memory, void *bytes, uint64_t size)
{
    struct memory *self = (struct memory *)memory;

    self->bytes = bytes;
    self->size = size;
    self->owned = bytes;
}

uint8_t *ib_memory_bytes(PyObject *memory)
{
    return ((struct memory *)memory)->bytes;
}

uint64_t ib_memory_size(PyObject *memory)
{
    return ((struct memory *)memory)->size;
}

static int memory_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    struct memory *memory = (struct memory *)self;
    /* An empty export has an address all the same: readers may not take NULL. */
    void *bytes = memory->bytes != NULL ? (void *)memory->bytes : (void *)memory;

    return PyBuffer_FillInfo(view, self, bytes, (Py_ssize_t)memory->size, 0, flags);
}

static void let_go(struct memory *memory)
{
    void *owned = memory->owned;

    memory->bytes = NULL;
    memory->size = 0;
    memory->owned = NULL;
    if (memory->source.obj != NULL) {
        PyBuffer_Release(&memory->source);
    }
    if (owned != NULL) {
        memory->release(owned);
    }
}

/* Without the GIL an object may die later than its last reference, in the thread that made it. */
void ib_memory_let_go(PyObject **memory)
{
    PyObject *held = *memory;

    *memory = NULL;
    if (held != NULL && !((struct memory *)held)->lent) {
        let_go((struct memory *)held);
    }
    Py_XDECREF(held);
}

void ib_memory_lend(PyObject *memory)
{
    ((struct memory *)memory)->lent = true;
}

/*
 * Whether the collector may take the exporter for garbage while we hold its buffer. It clears what
 * it takes, and some exporters then let go of their memory: a memoryview of CPython 3.11 crashes
 * when it is released afterwards, a ctypes array has freed it. A class derived from an exporter
 * that clears nothing (bytearray, array, numpy.ndarray, mmap) gives up its attributes only.
 */
static bool may_be_cleared(PyObject *exporter)
{
    PyTypeObject *type = Py_TYPE(exporter), *base = type;
    void *exports = PyType_GetSlot(type, Py_bf_getbuffer);

    while (base != NULL && PyType_GetSlot(base, Py_bf_getbuffer) == exports) {
        type = base;
        base = PyType_GetSlot(type, Py_tp_base);
    }
    return PyType_GetSlot(type, Py_tp_clear) == NULL;
}

/* Needs no tp_clear: each cycle goes through the bitmap, whose own gives the buffer back. */
static int memory_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct memory *memory = (struct memory *)self;

    Py_VISIT((PyObject *)Py_TYPE(self));
    if (memory->source.obj != NULL && may_be_cleared(memory->source.obj)) {
        Py_VISIT(memory->source.obj);
    }
    return 0;
}

static void memory_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc tp_free = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(self);
    let_go((struct memory *)self);
    tp_free(self);
    Py_DECREF(type);
}

static PyType_Slot memory_slots[] = {
    {Py_tp_doc, "Memory behind a bitmap or an array, exported as bytes."},
    {Py_tp_dealloc, memory_dealloc},
    {Py_tp_traverse, memory_traverse},
    {Py_bf_getbuffer, memory_getbuffer},
    {0, NULL},
};

PyType_Spec ib_memory_spec = {
    .name = "iovabitmap._core._Memory",
    .basicsize = sizeof(struct memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = memory_slots,
};

/* numpy.ndarray, borrowed from the module's state, which keeps it once it was asked for. */
static PyObject *ndarray_type(struct ib_state *state)
{
    PyObject *found = (PyObject *)ib_shared_get(&state->ndarray);

    if (found == NULL) {
        PyObject *numpy = PyImport_ImportModule("numpy");
        found = numpy == NULL ? NULL : PyObject_GetAttrString(numpy, "ndarray");
        Py_XDECREF(numpy);
        if (found != NULL && !ib_shared_swap(&state->ndarray, 0, (uintptr_t)found)) {
            Py_DECREF(found); /* another thread was first */
            found = (PyObject *)ib_shared_get(&state->ndarray);
        }
    }
    return found;
}

PyObject *ib_array(struct ib_state *state, PyObject *memory, const char *dtype, uint64_t rows,
                   uint64_t columns)
{
    PyObject *ndarray = ndarray_type(state);

    if (ndarray == NULL) {
        return NULL;
    }
    ib_memory_lend(memory);
    if (columns == 0) {
        return PyObject_CallFunction(ndarray, "(K)sO", (unsigned long long)rows, dtype, memory);
    }
    return PyObject_CallFunction(ndarray, "(KK)sO", (unsigned long long)rows,
                                 (unsigned long long)columns, dtype, memory);
}

PyObject *ib_array_of(struct ib_state *state, PyObject *memory, const char *dtype, uint64_t rows,
                      uint64_t columns)
{
    PyObject *array = memory == NULL ? NULL : ib_array(state, memory, dtype, rows, columns);

    Py_XDECREF(memory);
    return array;
}
