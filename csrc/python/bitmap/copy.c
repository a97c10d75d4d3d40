/*
 * copy.c - copies: copy(), the copy module and pickle. A copy has the geometry, content and
 * window_pages of its original, memory of its own and pin="none".
 */
#include "python/bitmap/bitmap.h"

#include <string.h>

/* The content in memory of its own. */
static PyObject *content(struct ib_bitmap *self)
{
    const uint64_t nbytes = ib_bitmap_geometry(self)->nbytes;
    struct ib_call call = {0};

    PyObject *memory = ib_bitmap_check(self) < 0 ? NULL : ib_memory_zeroed(self->state, nbytes);
    if (memory == NULL) {
        return NULL;
    }
    uint8_t *bytes = ib_memory_bytes(memory);
    if (ib_call_begin(&call, self, NULL, nbytes) < 0 ||
        ib_call_answer(&call, iova_bitmap_read(self->engine, bytes, &call.report)) < 0) {
        Py_CLEAR(memory);
    }
    return memory;
}

const char ib_doc_copy[] =
    "copy($self, /)\n--\n\n"
    "A bitmap of the same geometry, content and window_pages, in memory of its own, unpinned.\n\n"
    "Raises\n"
    "------\n"
    "PinError\n    Where memory could not be made readable.\n";

IB_METHOD_NOARGS(copy)
{
    (void)unused;
    PyObject *memory = content(self);
    if (memory == NULL) {
        return NULL;
    }
    struct ib_bitmap *copy =
        ib_bitmap_over(Py_TYPE((PyObject *)self), self->state, ib_bitmap_geometry(self), memory,
                       iova_bitmap_window_pages(self->engine));
    Py_DECREF(memory);
    return (PyObject *)copy;
}

/* The attributes that a subclass gave its instance: a dict, or None. */
static PyObject *attributes(struct ib_bitmap *self)
{
    PyObject *dict = PyObject_GetAttrString((PyObject *)self, "__dict__");

    if (dict == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        dict = ib_none();
    }
    return dict;
}

/* A copy with those attributes, or with deep copies of them where there is a memo. */
static PyObject *copy_with_attributes(struct ib_bitmap *self, PyObject *memo)
{
    PyObject *copy = ib_bitmap_copy(self, NULL);
    PyObject *given = copy == NULL ? NULL : attributes(self);

    if (given != NULL && given != Py_None && memo != NULL) {
        PyObject *module = PyImport_ImportModule("copy");
        PyObject *deep =
            module == NULL ? NULL : PyObject_CallMethod(module, "deepcopy", "OO", given, memo);
        Py_XDECREF(module);
        Py_DECREF(given);
        given = deep;
    }
    int rc = given == NULL ? -1 : 0;
    if (given != NULL && given != Py_None) {
        PyObject *own = PyObject_GetAttrString(copy, "__dict__");
        rc = own == NULL ? -1 : PyDict_Update(own, given);
        Py_XDECREF(own);
    }
    Py_XDECREF(given);
    if (rc < 0) {
        Py_CLEAR(copy);
    }
    return copy;
}

const char ib_doc___copy__[] =
    "__copy__($self, /)\n--\n\nThe same as copy(), with the attributes of a subclass.";

IB_METHOD_NOARGS(__copy__)
{
    (void)unused;
    return copy_with_attributes(self, NULL);
}

const char ib_doc___deepcopy__[] =
    "__deepcopy__($self, memo, /)\n--\n\nThe same as copy(), with the attributes of a subclass.";

IB_METHOD(__deepcopy__)
{
    static const char *const names[] = {"memo"};
    static const struct ib_signature signature = {"__deepcopy__", 1, 1, 1, names};
    PyObject *memo;

    if (ib_parse(&signature, args, nargs, kwnames, &memo) < 0) {
        return NULL;
    }
    return copy_with_attributes(self, memo);
}

const char ib_doc___reduce__[] =
    "__reduce__($self, /)\n--\n\nGeometry, window_pages and content, for pickle.";

IB_METHOD_NOARGS(__reduce__)
{
    (void)unused;
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);
    PyObject *memory = content(self);
    PyObject *bytes = memory == NULL ? NULL : PyBytes_FromObject(memory);
    PyObject *state = NULL;

    Py_XDECREF(memory);
    if (bytes == NULL) {
        return NULL;
    }
    PyObject *arguments = Py_BuildValue(
        "(OKKKKN)", (PyObject *)Py_TYPE((PyObject *)self), (unsigned long long)geometry->iova,
        (unsigned long long)geometry->length, (unsigned long long)geometry->page_size,
        (unsigned long long)iova_bitmap_window_pages(self->engine), bytes);
    if (arguments == NULL) {
        return NULL;
    }
    state = attributes(self);
    if (state == NULL) {
        Py_DECREF(arguments);
        return NULL;
    }
    return Py_BuildValue("(ONN)", self->state->restore, arguments, state);
}

const char ib_doc_restore[] =
    "_restore($module, type, iova, length, page_size, window_pages, content, /)\n--\n\n"
    "Rebuild a pickled bitmap.";

PyObject *ib_restore(PyObject *module, PyObject *args)
{
    struct ib_state *state = PyModule_GetState(module);
    PyObject *objects[5], *content_object;
    static const char *const names[] = {"iova", "length", "page_size", "window_pages"};
    uint64_t values[4];
    struct iova_bitmap_geometry geometry;

    if (!PyArg_ParseTuple(args, "OOOOOO:_restore", &objects[0], &objects[1], &objects[2],
                          &objects[3], &objects[4], &content_object)) {
        return NULL;
    }
    if (!PyType_Check(objects[0]) ||
        !PyType_IsSubtype((PyTypeObject *)objects[0], state->bitmap_type)) {
        PyErr_Format(PyExc_TypeError, "type must be IOVABitmap or a subclass, not %R", objects[0]);
        return NULL;
    }
    for (int i = 0; i < 4; i++) {
        if (ib_u64(objects[i + 1], names[i], &values[i]) < 0) {
            return NULL;
        }
    }
    int rc = iova_bitmap_geometry_init(&geometry, values[0], values[1], values[2]);
    if (rc < 0) {
        ib_raise_geometry(rc, values[0], values[1], values[2]);
        return NULL;
    }
    PyObject *source = ib_memory_from_object(state, content_object, false);
    if (source == NULL) {
        return NULL;
    }
    PyObject *bitmap = NULL;
    if (ib_memory_size(source) != geometry.nbytes) {
        PyErr_Format(PyExc_ValueError, "content has %llu bytes, the bitmap %llu",
                     (unsigned long long)ib_memory_size(source),
                     (unsigned long long)geometry.nbytes);
    } else {
        PyObject *memory = ib_memory_zeroed(state, geometry.nbytes);
        if (memory != NULL) {
            memcpy(ib_memory_bytes(memory), ib_memory_bytes(source), (size_t)geometry.nbytes);
            bitmap = (PyObject *)ib_bitmap_over((PyTypeObject *)objects[0], state, &geometry,
                                                memory, values[3]);
            Py_DECREF(memory);
        }
    }
    Py_DECREF(source);
    return bitmap;
}
