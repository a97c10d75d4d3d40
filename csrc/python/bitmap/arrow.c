/*
 * arrow.c - a bitmap as an Arrow array of booleans, without a copy.
 *
 * Arrow keeps booleans as a bitmap does, bit n in bit n % 8 of byte n // 8, so the caller's memory
 * is the array's buffer as it lies. The structures and the two capsules that carry them are those
 * of Arrow's C data interface, a stable ABI that needs no library of Arrow's.
 */
#include "python/bitmap/bitmap.h"

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

/* What the consumer of the array holds until it calls release. */
struct held {
    const void *buffers[2]; /* no validity bitmap, and the bits */
    PyObject *memory;
};

/* The consumer calls this from any thread, perhaps as the interpreter goes: the memory is then left
 * to the system. */
static void release_array(struct ArrowArray *array)
{
    struct held *held = array->private_data;

    array->release = NULL;
    if (Py_IsInitialized()) {
        PyGILState_STATE gil = PyGILState_Ensure();
        Py_DECREF(held->memory);
        PyMem_Free(held);
        PyGILState_Release(gil);
    }
}

static void release_schema(struct ArrowSchema *schema)
{
    schema->release = NULL; /* all of it is constant */
}

/* A capsule that nobody took its content from gives it back. */
static void destroy_array(PyObject *capsule)
{
    struct ArrowArray *array = PyCapsule_GetPointer(capsule, "arrow_array");

    if (array->release != NULL) {
        array->release(array);
    }
    PyMem_Free(array);
}

static void destroy_schema(PyObject *capsule)
{
    PyMem_Free(PyCapsule_GetPointer(capsule, "arrow_schema"));
}

static PyObject *export_schema(void)
{
    struct ArrowSchema *schema = PyMem_Calloc(1, sizeof(*schema));

    if (schema == NULL) {
        return PyErr_NoMemory();
    }
    schema->format = "b"; /* boolean; not nullable: no flag */
    schema->name = "";
    schema->release = release_schema;
    PyObject *capsule = PyCapsule_New(schema, "arrow_schema", destroy_schema);
    if (capsule == NULL) {
        PyMem_Free(schema);
    }
    return capsule;
}

static PyObject *export_array(PyObject *memory, uint64_t nbits)
{
    struct ArrowArray *array = PyMem_Calloc(1, sizeof(*array));
    struct held *held = PyMem_Calloc(1, sizeof(*held));
    PyObject *capsule = NULL;

    if (array == NULL || held == NULL) {
        PyErr_NoMemory();
    } else {
        capsule = PyCapsule_New(array, "arrow_array", destroy_array);
    }
    if (capsule == NULL) {
        PyMem_Free(array);
        PyMem_Free(held);
        return NULL;
    }
    held->memory = Py_NewRef(memory);
    ib_memory_lend(memory);
    held->buffers[1] = ib_memory_bytes(memory);
    array->length = (int64_t)nbits;
    array->n_buffers = 2;
    array->buffers = held->buffers;
    array->release = release_array;
    array->private_data = held;
    return capsule;
}

const char ib_doc___arrow_c_array__[] =
    "__arrow_c_array__($self, /, requested_schema=None)\n--\n\n"
    "The bitmap's memory as an Arrow array of nbits booleans, True where the page is dirty.\n\n"
    "Zero-copy, as view() is: the array shows later marks, and keeps the memory when the bitmap "
    "is\n"
    "freed. Copy the bitmap first for an array that stays as it is. The result is the pair of\n"
    "capsules of Arrow's PyCapsule interface, which pyarrow, polars and others read; it is "
    "boolean\n"
    "whatever schema is requested.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    On a freed bitmap.\n"
    "TypeError\n    Where requested_schema is neither None nor an Arrow schema.\n"
    "OverflowError\n    Where there are 2**63 pages or more: Arrow counts with a sign.\n\n"
    "Examples\n"
    "--------\n"
    ">>> import iovabitmap as ib\n"
    ">>> bm = ib.IOVABitmap(0, 0x4000)\n"
    ">>> bm.set(0x1000, 0x2000)\n"
    ">>> import pyarrow  # doctest: +SKIP\n"
    ">>> pyarrow.array(bm).to_pylist()  # doctest: +SKIP\n"
    "[False, True, True, False]\n";

IB_METHOD(__arrow_c_array__)
{
    static const char *const names[] = {"requested_schema"};
    static const struct ib_signature signature = {"__arrow_c_array__", 0, 1, 1, names};
    PyObject *requested;

    if (ib_parse(&signature, args, nargs, kwnames, &requested) < 0) {
        return NULL;
    }
    if (requested != NULL && requested != Py_None &&
        !PyCapsule_IsValid(requested, "arrow_schema")) {
        PyErr_Format(PyExc_TypeError, "requested_schema must be an 'arrow_schema' capsule, not %R",
                     requested);
        return NULL;
    }
    if (ib_bitmap_begin(self) < 0) {
        return NULL;
    }
    uint64_t nbits = ib_bitmap_geometry(self)->nbits;
    PyObject *schema = NULL, *array = NULL, *pair = NULL;
    if (nbits > INT64_MAX) {
        PyErr_Format(PyExc_OverflowError, "an Arrow array holds at most 2**63 - 1 pages, not %llu",
                     (unsigned long long)nbits);
    } else {
        schema = export_schema();
        array = schema == NULL ? NULL : export_array(self->memory, nbits);
        pair = array == NULL ? NULL : PyTuple_Pack(2, schema, array);
    }
    Py_XDECREF(schema);
    Py_XDECREF(array);
    ib_bitmap_end(self);
    return pair;
}
