/*
 * foreign.c - a buffer that somebody else exports. No field of it is used before it was checked:
 * exporters leave out strides and shape although they were asked for (NumPy's dates do), and one
 * that is wrong about a size must not make us read beyond its memory.
 */
#include "python/exchange/exchange.h"

static int refuse(const char *what)
{
    PyErr_Format(PyExc_BufferError, "the exporter of the buffer is broken: %s", what);
    return -1;
}

int ib_foreign_check(const Py_buffer *view, bool writable)
{
    if (view->len < 0 || view->itemsize < 1 || view->len % view->itemsize != 0) {
        return refuse("its length is no number of items");
    }
    if (view->buf == NULL && view->len != 0) {
        return refuse("it has no address");
    }
    if (writable && view->readonly) {
        return refuse("it is read-only though writable memory was asked for");
    }
    if (view->ndim < 0 || view->ndim > PyBUF_MAX_NDIM) {
        return refuse("its number of dimensions");
    }
    for (int i = 0; view->suboffsets != NULL && i < view->ndim; i++) {
        if (view->suboffsets[i] >= 0) {
            return refuse("it is indirect though that was not asked for");
        }
    }
    return 0;
}

/* The items that the shape counts are those of the length. */
static bool fits(const Py_buffer *view, const struct ib_layout *layout)
{
    uint64_t items = 1, all = (uint64_t)(view->len / view->itemsize);

    for (int i = 0; i < layout->ndim; i++) {
        if (layout->shape[i] <= 0) {
            return layout->shape[i] == 0 && all == 0;
        }
        if (items > all / (uint64_t)layout->shape[i]) {
            return false;
        }
        items *= (uint64_t)layout->shape[i];
    }
    return items == all;
}

/* No step from the first item to the last overflows. One item needs no steps. */
static bool steps(const struct ib_layout *layout)
{
    for (int i = 0; i < layout->ndim; i++) {
        Py_ssize_t last = layout->shape[i] - 1, stride = layout->strides[i];
        if (last > 0 &&
            (stride > PY_SSIZE_T_MAX / 2 / last || stride < -(PY_SSIZE_T_MAX / 2 / last))) {
            return false;
        }
    }
    return true;
}

int ib_foreign_layout(const Py_buffer *view, struct ib_layout *layout)
{
    *layout = (struct ib_layout){.ndim = view->ndim};
    if (view->ndim > IB_LAYOUT_DIMENSIONS) {
        return 0;
    }
    bool known = view->shape != NULL || view->ndim == 0;
    if (!known) {
        layout->ndim = 1;
        layout->shape[0] = view->len / view->itemsize;
    }
    for (int i = 0; known && i < view->ndim; i++) {
        layout->shape[i] = view->shape[i];
    }
    if (!fits(view, layout)) {
        return refuse("its shape is not that of its length");
    }
    Py_ssize_t packed = view->itemsize;
    layout->packed = true;
    for (int i = layout->ndim - 1; i >= 0; i--) {
        layout->strides[i] = known && view->strides != NULL ? view->strides[i] : packed;
        layout->packed &= layout->strides[i] == packed || layout->shape[i] < 2;
        packed *= layout->shape[i];
    }
    return view->len == 0 || steps(layout) ? 0 : refuse("its strides");
}

bool ib_format_has_objects(const char *format)
{
    bool in_name = false; /* field names stand between colons */

    for (; format != NULL && *format != '\0'; format++) {
        in_name ^= *format == ':';
        if (*format == 'O' && !in_name) {
            return true;
        }
    }
    return false;
}
