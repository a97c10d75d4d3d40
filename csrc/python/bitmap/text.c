/*
 * text.c - a bitmap as text: to_text, from_text and repr, also for notebooks.
 *
 * The text is the kernel's list form, "0-22,64-97": bits counted from the base.
 */
#include "python/bitmap/bitmap.h"

#include <stdio.h>
#include <string.h>

enum { MAX_RUN_TEXT = 44 }; /* two 64-bit numbers, a dash, a comma, and the end */

/* The list of rows, which are those of the whole bitmap. */
static PyObject *list_text(const struct iova_bitmap_geometry *geometry,
                           const struct iova_bitmap_ranges *ranges)
{
    char *text = PyMem_Malloc((size_t)ranges->count * MAX_RUN_TEXT + 1);
    char *end = text;

    if (text == NULL) {
        return PyErr_NoMemory();
    }
    *end = '\0';
    for (uint64_t i = 0; i < ranges->count; i++) {
        if (ib_poll_each(i) < 0) {
            PyMem_Free(text);
            return NULL;
        }
        const struct iova_bitmap_range *row = &ranges->rows[i];
        uint64_t first = (row->iova - geometry->iova) >> geometry->pgshift;
        uint64_t last = (row->iova + (row->length - 1) - geometry->iova) >> geometry->pgshift;
        end += snprintf(end, MAX_RUN_TEXT, i == 0 ? "%llu" : ",%llu", (unsigned long long)first);
        if (last != first) {
            end += snprintf(end, MAX_RUN_TEXT, "-%llu", (unsigned long long)last);
        }
    }
    PyObject *result = PyUnicode_FromStringAndSize(text, end - text);
    PyMem_Free(text);
    return result;
}

const char ib_doc_to_text[] =
    "to_text($self, /)\n--\n\n"
    "The dirty bits, counted from the base, as the kernel lists bits: '0-22,64-97'.\n\n"
    "Raises\n"
    "------\n"
    "PinError\n    Where memory could not be made readable.\n";

IB_METHOD_NOARGS(to_text)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);
    struct iova_bitmap_ranges ranges = {0};
    struct ib_call call = {0};
    (void)unused;

    if (ib_call_begin(&call, self, NULL, geometry->nbytes) < 0) {
        return NULL;
    }
    int rc = iova_bitmap_ranges(self->engine, geometry->iova, geometry->length, 0, &ranges,
                                &call.report);
    if (ib_call_answer(&call, rc) < 0) {
        return NULL;
    }
    PyObject *text = list_text(geometry, &ranges);
    iova_bitmap_rows_free(ranges.rows);
    return text;
}

/* A decimal number at *at, which moves behind it. 0 or -1. */
static int read_number(const char **at, uint64_t *number)
{
    const char *start = *at;

    *number = 0;
    for (; **at >= '0' && **at <= '9'; ++*at) {
        uint64_t units = (uint64_t)(**at - '0');
        if (*number > (UINT64_MAX - units) / 10) {
            return -1;
        }
        *number = *number * 10 + units;
    }
    return *at == start ? -1 : 0;
}

static void skip_space(const char **at)
{
    while (**at == ' ' || **at == '\t' || **at == '\n' || **at == '\r') {
        ++*at;
    }
}

/* Marks one run of the text at *at. 0 or -1 and ValueError. */
static int mark_run(struct ib_bitmap *bitmap, const char *text, const char **at)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(bitmap);
    Py_ssize_t place = *at - text;
    uint64_t first, last;

    int rc = read_number(at, &first);
    last = first;
    if (rc == 0 && **at == '-') {
        ++*at;
        rc = read_number(at, &last);
    }
    skip_space(at);
    if (rc < 0 || (**at != ',' && **at != '\0') || last < first) {
        PyErr_Format(PyExc_ValueError,
                     "text must be a list such as '0-22,64': '%.40s' at %zd is not", text + place,
                     place);
        return -1;
    }
    if (last >= geometry->nbits) {
        PyErr_Format(PyExc_ValueError, "bit %llu is not among the bitmap's %llu",
                     (unsigned long long)last, (unsigned long long)geometry->nbits);
        return -1;
    }
    uint64_t start = first << geometry->pgshift;
    uint64_t end = last == geometry->nbits - 1 ? geometry->length : (last + 1) << geometry->pgshift;
    struct iova_bitmap_range run = {geometry->iova + start, end - start};
    struct iova_bitmap_report report;
    uint64_t bad_row;
    /* A batch of one: a new bitmap has no present window. */
    return iova_bitmap_set_ranges(bitmap->engine, &run, 1, 0, &bad_row, &report);
}

static int mark_list(struct ib_bitmap *bitmap, const char *text)
{
    const char *at = text;

    skip_space(&at);
    for (uint64_t i = 0; *at != '\0'; i++) {
        if (mark_run(bitmap, text, &at) < 0 || ib_poll_each(i) < 0) {
            return -1;
        }
        if (*at == ',') {
            ++at;
            skip_space(&at);
            if (*at == '\0') {
                PyErr_SetString(PyExc_ValueError, "text ends in a comma");
                return -1;
            }
        }
    }
    return 0;
}

const char ib_doc_from_text[] =
    "from_text($type, /, text, iova, length, page_size=4096)\n--\n\n"
    "A bitmap with memory of its own, dirty where `text` says: '0-22,64-97'.\n\n"
    "Bits are counted from the base. The empty text is a clean bitmap.\n\n"
    "Raises\n"
    "------\n"
    "ValueError\n    For a bad text or geometry, or a bit that the bitmap does not have.\n\n"
    "Examples\n"
    "--------\n"
    ">>> IOVABitmap.from_text('0-1,3', 0, 0x4000).ranges().tolist()\n"
    "[[0, 8192], [12288, 4096]]\n";

PyObject *ib_bitmap_from_text(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", "iova", "length", "page_size", NULL};
    struct ib_state *state = ib_state_of_type(type);
    PyObject *text, *iova_object, *length_object, *page_object = NULL;
    struct iova_bitmap_geometry geometry;
    uint64_t iova, length, page_size = 4096;

    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "UOO|O:from_text", names, &text, &iova_object,
                                     &length_object, &page_object) ||
        ib_u64(iova_object, "iova", &iova) < 0 || ib_u64(length_object, "length", &length) < 0 ||
        (page_object != NULL && ib_u64(page_object, "page_size", &page_size) < 0)) {
        return NULL;
    }
    int rc = iova_bitmap_geometry_init(&geometry, iova, length, page_size);
    if (rc < 0) {
        ib_raise_geometry(rc, iova, length, page_size);
        return NULL;
    }
    Py_ssize_t size;
    const char *list = PyUnicode_AsUTF8AndSize(text, &size);
    if (list == NULL) {
        return NULL;
    }
    if (strlen(list) != (size_t)size) {
        PyErr_SetString(PyExc_ValueError, "text holds a null character");
        return NULL;
    }
    PyObject *memory = ib_memory_zeroed(state, geometry.nbytes);
    struct ib_bitmap *bitmap =
        memory == NULL ? NULL : ib_bitmap_over(type, state, &geometry, memory, 0);
    Py_XDECREF(memory);
    if (bitmap != NULL && mark_list(bitmap, list) < 0) {
        Py_CLEAR(bitmap);
    }
    return (PyObject *)bitmap;
}

/* ---- repr ---- */

enum { REPR_BYTES = 1 << 16, REPR_RANGES = 16 };

/* A call that makes the same bitmap, where that is short; NULL without an exception where not. */
static PyObject *repr_as_call(struct ib_bitmap *self)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);
    struct ib_call call = {0};
    char numbers[80];

    /* A look must not call into a pin object. */
    if (geometry->nbytes > REPR_BYTES || ib_bitmap_is_freed(self) ||
        ib_bitmap_has_pin_object(self) || ib_call_begin(&call, self, NULL, 0) < 0) {
        return NULL;
    }
    int rc =
        iova_bitmap_count_ranges(self->engine, geometry->iova, geometry->length, 0, &call.report);
    if (ib_call_answer(&call, rc) < 0 || call.report.pages > REPR_RANGES) {
        return NULL;
    }
    PyObject *text = ib_bitmap_to_text(self, NULL);
    if (text == NULL) {
        return NULL;
    }
    PyOS_snprintf(numbers, sizeof(numbers), "0x%llx, 0x%llx, %llu",
                  (unsigned long long)geometry->iova, (unsigned long long)geometry->length,
                  (unsigned long long)geometry->page_size);
    PyObject *repr = PyUnicode_FromFormat("IOVABitmap.from_text(\"%U\", %s)", text, numbers);
    Py_DECREF(text);
    return repr;
}

PyObject *ib_bitmap_repr(struct ib_bitmap *self)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);
    PyObject *repr = repr_as_call(self);
    char start[24], end[24];

    if (repr != NULL) {
        return repr;
    }
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(self->state->pin_error) && !ib_bitmap_is_freed(self)) {
            return NULL; /* else freed this very moment */
        }
        PyErr_Clear();
    }
    PyOS_snprintf(start, sizeof(start), "0x%llx", (unsigned long long)geometry->iova);
    PyOS_snprintf(end, sizeof(end), "0x%llx", (unsigned long long)geometry->last + 1);
    return PyUnicode_FromFormat(
        "<IOVABitmap %s-%s page size %llu, %llu byte%s%s>", start,
        geometry->last == UINT64_MAX ? "0x10000000000000000" : end,
        (unsigned long long)geometry->page_size, (unsigned long long)geometry->nbytes,
        geometry->nbytes == 1 ? "" : "s", ib_bitmap_is_freed(self) ? ", freed" : "");
}

const char ib_doc__repr_html_[] = "_repr_html_($self, /)\n--\n\n"
                                  "The geometry and where it is dirty, as HTML for notebooks.\n\n"
                                  "Raises nothing but MemoryError, whatever the bitmap's state.";

/* What is shown is written in Python: it calls nothing here but what users can. */
IB_METHOD_NOARGS(_repr_html_)
{
    (void)unused;
    PyObject *module = PyImport_ImportModule("iovabitmap._base.bitmap_html");
    PyObject *html = module == NULL ? NULL : PyObject_CallMethod(module, "shown", "O", self);

    Py_XDECREF(module);
    return html;
}
