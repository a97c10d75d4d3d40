/*
 * stamp.c - _stamp(): a writer that goes on while the interpreter is busy with something else.
 *
 * iovabitmap.testing.verify_dirty_log() must write memory during a harvest, and a harvest in C may
 * hold the interpreter from its first to its last instruction: a writer in Python would stand still
 * just then. This one needs the interpreter only to begin and to end.
 */
#include "python/testing/testing.h"

#include "core/bits/atomic.h"

const char ib_doc_stamp[] =
    "_stamp($module, /, memory, offsets, value, pause, progress)\n--\n\n"
    "Stores a number at many places, without the GIL.\n\n"
    "Parameters\n"
    "----------\n"
    "memory : buffer\n    Writable; others may read and write it meanwhile.\n"
    "offsets : array or sequence\n"
    "    Where to store, in this order: bytes from the start of memory. Each is inside, and at a\n"
    "    multiple of 8 as an address.\n"
    "value : int\n    Stored as an unsigned number of 64 bits, in the host's byte order.\n"
    "pause : int\n    Turns of an empty loop after each store.\n"
    "progress : buffer\n"
    "    Writable, at least 8 bytes at a multiple of 8: a number of 64 bits that is increased\n"
    "    after each store.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    An offset that is not inside or not aligned: nothing is stored.\n";

/* An address that 64 bits can be exchanged at, or NULL. */
static iova_word *word_at(PyObject *memory, uint64_t offset)
{
    uint64_t size = ib_memory_size(memory);

    if (size < sizeof(iova_word) || offset > size - sizeof(iova_word)) {
        return NULL;
    }
    uint8_t *byte = ib_memory_bytes(memory) + offset;
    return (uintptr_t)byte % sizeof(iova_word) == 0 ? (iova_word *)(void *)byte : NULL;
}

static int check(PyObject *memory, const struct ib_items *offsets)
{
    for (uint64_t i = 0; i < offsets->count; i++) {
        if (word_at(memory, offsets->items[i]) == NULL) {
            PyErr_Format(
                PyExc_ValueError, "offset %llu is not 8 aligned bytes inside a memory of %llu",
                (unsigned long long)offsets->items[i], (unsigned long long)ib_memory_size(memory));
            return -1;
        }
    }
    return 0;
}

/* Looks at each offset once more, and once: another thread may have changed the array. */
static void stamp(PyObject *memory, const struct ib_items *offsets, uint64_t value, uint64_t pause,
                  uint64_t *progress)
{
    for (uint64_t i = 0; i < offsets->count; i++) {
        uint64_t offset = iova_atomic_load64((const iova_word *)&offsets->items[i]);
        iova_word *word = word_at(memory, offset);
        if (word != NULL) {
            /* An exchange: neither dropped nor moved by the compiler. */
            iova_atomic_exchange64(word, value);
            iova_atomic_add64(progress, 1);
        }
        for (volatile uint64_t turn = 0; turn < pause; turn++) {
        }
    }
}

static PyObject *stamp_checked(PyObject *memory, const struct ib_items *offsets, uint64_t value,
                               uint64_t pause, PyObject *progress)
{
    iova_word *counter = word_at(progress, 0);

    if (counter == NULL) {
        PyErr_SetString(PyExc_ValueError, "progress must be 8 aligned bytes");
        return NULL;
    }
    if (check(memory, offsets) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS stamp(memory, offsets, value, pause, (uint64_t *)counter);
    Py_END_ALLOW_THREADS return ib_none();
}

PyObject *ib_stamp(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"memory", "offsets", "value", "pause", "progress"};
    static const struct ib_signature signature = {"_stamp", 5, 5, 5, names};
    struct ib_state *state = PyModule_GetState(module);
    PyObject *parsed[5], *memory = NULL, *progress = NULL, *result = NULL;
    struct ib_items offsets;
    uint64_t value, pause;

    if (ib_parse(&signature, args, nargs, kwnames, parsed) < 0 ||
        ib_u64(parsed[2], "value", &value) < 0 || ib_u64(parsed[3], "pause", &pause) < 0 ||
        ib_items_get(parsed[1], "offsets", 1, &offsets) < 0) {
        return NULL;
    }
    if ((memory = ib_memory_from_object(state, parsed[0], true)) != NULL &&
        (progress = ib_memory_from_object(state, parsed[4], true)) != NULL) {
        result = stamp_checked(memory, &offsets, value, pause, progress);
    }
    Py_XDECREF(progress);
    Py_XDECREF(memory);
    ib_items_release(&offsets);
    return result;
}
