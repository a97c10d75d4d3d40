/*
 * epochs.c - _first_bad_row(), _add_history(), _add_hits() and _add_map(): passes over columns of a
 * log, without the GIL. All arrays are contiguous buffers of 8-byte items, but for `last` and
 * `bin_of`, of 4-byte ones.
 */
#include "python/epochs/epochs.h"

#include <string.h>

#include "core/epochs/epochs.h"

const char ib_doc_first_bad_row[] =
    "_first_bad_row($module, columns, base, length, /)\n--\n\n"
    "The number of the first row that no log has; as many as rows if all can be true.\n\n"
    "columns are epoch, t_start_ns, t_end_ns, iova and length, of one length.\n";

const char ib_doc_add_history[] =
    "_add_history($module, rows, last, weight, bin_of, newly, after, from_, /)\n--\n\n"
    "Counts the gaps that end with rows (epoch, first piece, pieces), three columns.\n\n"
    "weight may be None: a piece is a page. See csrc/core/epochs/epochs.h.\n";

const char ib_doc_add_hits[] =
    "_add_hits($module, rows, hits, /)\n--\n\n"
    "Adds 1 to hits[n] for each piece n of rows (first piece, pieces), two columns.\n";

const char ib_doc_add_map[] =
    "_add_map($module, rows, base, page_size, first, column_of, counts, cover, /)\n--\n\n"
    "Adds rows (epoch, iova, length), three columns, to the pages of each epoch and to the bytes "
    "of\n"
    "each column and part. See csrc/core/epochs/epochs.h.\n";

enum { MOST_BUFFERS = 9 };

/* The buffers of a call, held while it runs. */
struct held {
    PyObject *memories[MOST_BUFFERS];
    int count;
};

static void let_go(struct held *held)
{
    while (held->count > 0) {
        Py_DECREF(held->memories[--held->count]);
    }
}

/* The items of a buffer and their number: of `size` bytes each, at an address that fits them. 0, or
 * -1 and an exception. */
static int hold(struct ib_state *state, struct held *held, PyObject *object, bool writable,
                uint64_t size, void *items, uint64_t *count)
{
    PyObject *memory = ib_memory_from_object(state, object, writable);

    if (memory == NULL) {
        return -1;
    }
    held->memories[held->count++] = memory;
    void *bytes = ib_memory_bytes(memory);
    if (ib_memory_size(memory) % size != 0 || (uintptr_t)bytes % size != 0) {
        PyErr_Format(PyExc_ValueError, "a buffer must have whole, aligned items of %llu bytes",
                     (unsigned long long)size);
        return -1;
    }
    *count = ib_memory_size(memory) / size;
    memcpy(items, &bytes, sizeof(bytes));
    return 0;
}

/* So many columns of one length, from a tuple of buffers. 0, or -1 and an exception. */
static int hold_columns(struct ib_state *state, struct held *held, PyObject *tuple, int columns,
                        const void **out, uint64_t *count)
{
    if (!PyTuple_Check(tuple) || PyTuple_Size(tuple) != columns) {
        PyErr_Format(PyExc_TypeError, "columns must be a tuple of %d buffers", columns);
        return -1;
    }
    for (int i = 0; i < columns; i++) {
        uint64_t n;
        if (hold(state, held, PyTuple_GetItem(tuple, i), false, sizeof(uint64_t), &out[i], &n) <
            0) {
            return -1;
        }
        if (i > 0 && n != *count) {
            PyErr_Format(PyExc_ValueError, "column %d has %llu rows, and the first %llu", i,
                         (unsigned long long)n, (unsigned long long)*count);
            return -1;
        }
        *count = n;
    }
    return 0;
}

PyObject *ib_first_bad_row(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct ib_state *state = PyModule_GetState(module);
    struct held held = {.count = 0};
    const void *columns[5];
    uint64_t base, length, count = 0, bad;

    if (nargs != 3) {
        PyErr_Format(PyExc_TypeError, "_first_bad_row() takes 3 arguments, not %zd", nargs);
        return NULL;
    }
    if (ib_u64(args[1], "base", &base) < 0 || ib_u64(args[2], "length", &length) < 0 ||
        hold_columns(state, &held, args[0], 5, columns, &count) < 0) {
        let_go(&held);
        return NULL;
    }
    const struct iova_epoch_columns rows = {
        columns[0], columns[1], columns[2], columns[3], columns[4], count,
    };
    Py_BEGIN_ALLOW_THREADS bad = iova_epochs_check(&rows, base, length);
    Py_END_ALLOW_THREADS let_go(&held);
    return PyLong_FromUnsignedLongLong(bad);
}

/* The state of a history, whose arrays fit each other. 0, or -1 and an exception. */
static int hold_history(struct ib_state *state, struct held *held, PyObject *const *args,
                        struct iova_history *history)
{
    const uint64_t wide = sizeof(uint64_t), narrow = sizeof(int32_t);
    uint64_t newly, after, from, weights;

    if (hold(state, held, args[1], true, narrow, &history->last, &history->npieces) < 0 ||
        hold(state, held, args[3], false, narrow, &history->bin_of, &history->nepochs) < 0 ||
        hold(state, held, args[4], true, wide, &history->newly, &newly) < 0 ||
        hold(state, held, args[5], true, wide, &history->after, &after) < 0 ||
        hold(state, held, args[6], true, wide, &history->from, &from) < 0) {
        return -1;
    }
    weights = history->npieces;
    if (args[2] != Py_None &&
        hold(state, held, args[2], false, wide, &history->weight, &weights) < 0) {
        return -1;
    }
    history->nbins = history->nepochs == 0 ? 0 : after / history->nepochs;
    if (newly != history->nepochs || after != history->nbins * history->nepochs || from != after ||
        weights != history->npieces) {
        PyErr_SetString(PyExc_ValueError, "the arrays of a history do not fit each other");
        return -1;
    }
    return 0;
}

/* None, or ValueError for the row that was not added. */
static PyObject *all_added(uint64_t added, uint64_t count)
{
    if (added < count) {
        PyErr_Format(PyExc_ValueError, "row %llu is outside of what is counted, or comes twice",
                     (unsigned long long)added);
        return NULL;
    }
    return Py_NewRef(Py_None);
}

PyObject *ib_add_history(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct ib_state *state = PyModule_GetState(module);
    struct held held = {.count = 0};
    struct iova_history history = {0};
    const void *columns[3];
    uint64_t count = 0, added;

    if (nargs != 7) {
        PyErr_Format(PyExc_TypeError, "_add_history() takes 7 arguments, not %zd", nargs);
        return NULL;
    }
    if (hold_columns(state, &held, args[0], 3, columns, &count) < 0 ||
        hold_history(state, &held, args, &history) < 0) {
        let_go(&held);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS added =
        iova_history_add(&history, columns[0], columns[1], columns[2], count);
    Py_END_ALLOW_THREADS let_go(&held);
    return all_added(added, count);
}

PyObject *ib_add_hits(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct ib_state *state = PyModule_GetState(module);
    struct held held = {.count = 0};
    const void *columns[2];
    int32_t *hits;
    uint64_t count = 0, npieces, added;

    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "_add_hits() takes 2 arguments, not %zd", nargs);
        return NULL;
    }
    if (hold_columns(state, &held, args[0], 2, columns, &count) < 0 ||
        hold(state, &held, args[1], true, sizeof(*hits), &hits, &npieces) < 0) {
        let_go(&held);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS added = iova_history_hits(hits, npieces, columns[0], columns[1], count);
    Py_END_ALLOW_THREADS let_go(&held);
    return all_added(added, count);
}

/* A map, whose arrays fit each other. 0, or -1 and an exception. */
static int hold_map(struct ib_state *state, struct held *held, PyObject *const *args,
                    struct iova_epoch_map *map)
{
    const uint64_t wide = sizeof(uint64_t);
    uint64_t page_size, counts, cells;

    if (ib_u64(args[1], "base", &map->base) < 0 || ib_u64(args[2], "page_size", &page_size) < 0 ||
        hold(state, held, args[3], false, wide, &map->first, &map->nparts) < 0 ||
        hold(state, held, args[4], false, sizeof(int32_t), &map->column_of, &map->nepochs) < 0 ||
        hold(state, held, args[5], true, wide, &map->counts, &counts) < 0 ||
        hold(state, held, args[6], true, sizeof(double), &map->cover, &cells) < 0) {
        return -1;
    }
    map->ncolumns = map->nparts == 0 ? 0 : cells / map->nparts;
    if (counts != map->nepochs || cells != map->ncolumns * map->nparts || page_size == 0) {
        PyErr_SetString(PyExc_ValueError, "the arrays of a map do not fit each other");
        return -1;
    }
    while (page_size >> map->shift > 1) {
        map->shift++;
    }
    return 0;
}

PyObject *ib_add_map(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    struct ib_state *state = PyModule_GetState(module);
    struct held held = {.count = 0};
    struct iova_epoch_map map = {0};
    const void *columns[3];
    uint64_t count = 0, added;

    if (nargs != 7) {
        PyErr_Format(PyExc_TypeError, "_add_map() takes 7 arguments, not %zd", nargs);
        return NULL;
    }
    if (hold_columns(state, &held, args[0], 3, columns, &count) < 0 ||
        hold_map(state, &held, args, &map) < 0) {
        let_go(&held);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS added = iova_map_add(&map, columns[0], columns[1], columns[2], count);
    Py_END_ALLOW_THREADS let_go(&held);
    return all_added(added, count);
}
