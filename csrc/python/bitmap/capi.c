/*
 * capi.c - the capsule for other C code: iovabitmap_api.h says what it promises.
 *
 * What is held is an engine's bitmap of its own over the same memory, which the engine allows any
 * number of: so C code has no turn to wait for, and free() has nobody to wait for.
 */
#include "python/bitmap/bitmap.h"

#include "iovabitmap_api.h"

/* Makes held->bitmap. The object's operation has begun: its engine and memory stay meanwhile. */
static int hold(struct ib_bitmap *self, struct iovabitmap_held *held)
{
    const struct iova_bitmap_geometry *geometry = ib_bitmap_geometry(self);
    struct iova_bitmap_options options = {.window_pages = iova_bitmap_window_pages(self->engine)};

    if (ib_bitmap_has_pin_object(self)) {
        PyErr_SetString(PyExc_ValueError, "C code cannot mark a bitmap with a pin object");
        return -1;
    }
    if (ib_pin_options(self->pin, &options) < 0) {
        return -1;
    }
    if (iova_bitmap_alloc(geometry->iova, geometry->length, geometry->page_size,
                          ib_memory_bytes(self->memory), ib_memory_size(self->memory), &options,
                          &held->bitmap) < 0) { /* all else was checked when self was made */
        held->bitmap = NULL;
        PyErr_NoMemory();
        return -1;
    }
    ib_memory_lend(self->memory);
    held->memory = Py_NewRef(self->memory);
    return 0;
}

static int acquire(void *object, struct iovabitmap_held *held)
{
    struct ib_state *state = ib_state_of_type(Py_TYPE((PyObject *)object));
    struct ib_bitmap *self = object;

    held->bitmap = NULL;
    held->memory = NULL;
    if (state == NULL) {
        PyErr_Clear(); /* it says the same of a type that is nothing of ours, in other words */
    }
    if (state == NULL || !PyObject_TypeCheck((PyObject *)object, state->bitmap_type)) {
        PyErr_Format(PyExc_TypeError, "an IOVABitmap is needed, not %R",
                     Py_TYPE((PyObject *)object));
        return -1;
    }
    if (ib_bitmap_begin(self) < 0) {
        return -1;
    }
    int rc = hold(self, held);
    ib_bitmap_end(self);
    return rc;
}

static void release(struct iovabitmap_held *held)
{
    PyObject *memory = held->memory;

    iova_bitmap_free(held->bitmap);
    held->bitmap = NULL;
    held->memory = NULL;
    Py_XDECREF(memory);
}

static const struct iovabitmap_api table = {
    .version = IOVABITMAP_API_VERSION,
    .size = sizeof(struct iovabitmap_api),
    .acquire = acquire,
    .release = release,
    .set = iova_bitmap_set,
    .clear = iova_bitmap_clear,
    .test = iova_bitmap_test,
    .count = iova_bitmap_count,
    .geometry = iova_bitmap_geometry,
    .set_ranges = iova_bitmap_set_ranges,
    .read_and_clear = iova_bitmap_read_and_clear,
    .rows_free = iova_bitmap_rows_free,
};

int ib_add_capi(PyObject *module)
{
    PyObject *capsule = PyCapsule_New((void *)(uintptr_t)&table, IOVABITMAP_API_CAPSULE, NULL);

    if (capsule == NULL) {
        return -1;
    }
    int rc = PyModule_AddObjectRef(module, "_C_API", capsule);
    Py_DECREF(capsule);
    return rc;
}
