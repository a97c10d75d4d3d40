/*
 * write_tracker.c - the type _WriteTracker, from which iovabitmap.sources.WriteTracker is made: it
 * holds the tracked buffer and lets other threads run while the kernel works.
 *
 * One call at a time: `busy` is set while the kernel is asked without the GIL, and while marking,
 * when a pin object may call back. Who comes then gets a RuntimeError; only `started` answers.
 */
#include "core/sources/write_tracker.h"
#include "python/sources/sources.h"

#include <errno.h>
#include <string.h>

struct tracker {
    PyObject_HEAD struct ib_state
        *state; /* of the module that the type belongs to, which it keeps alive */
    struct iova_write_tracker *engine;
    PyObject *memory; /* holds the buffer */
    uint64_t iova;
    uint64_t granularity;
    uintptr_t busy;    /* 1 while a call has the engine */
    uintptr_t started; /* as the last such call left it */
};

/* ---- making ---- */

/* -EINVAL can only be an empty buffer or the granularity. */
static void raise_new(int error, const struct tracker *self)
{
    char text[96];

    if (error == -ENOMEM) {
        PyErr_NoMemory();
    } else if (error == -EOVERFLOW) {
        PyOS_snprintf(text, sizeof(text), "range 0x%llx (+0x%llx) ends beyond 2**64",
                      (unsigned long long)self->iova,
                      (unsigned long long)ib_memory_size(self->memory));
        PyErr_SetString(PyExc_ValueError, text);
    } else if (ib_memory_size(self->memory) == 0) {
        PyErr_SetString(PyExc_ValueError, "the buffer is empty");
    } else {
        PyErr_Format(
            PyExc_ValueError,
            "granularity must be a power of two and at least the host's page size, not %llu",
            (unsigned long long)self->granularity);
    }
}

static PyObject *tracker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"buffer", "iova", "granularity", NULL};
    struct ib_state *state = ib_state_of_type(type);
    PyObject *buffer, *iova, *granularity;

    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:_WriteTracker", names,
                                                      &buffer, &iova, &granularity)) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct tracker *self = (struct tracker *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    if (ib_u64(iova, "iova", &self->iova) < 0 ||
        ib_u64(granularity, "granularity", &self->granularity) < 0 ||
        (self->memory = ib_memory_from_object(state, buffer, false)) == NULL) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    int rc = iova_write_tracker_new(ib_memory_bytes(self->memory), ib_memory_size(self->memory),
                                    self->iova, self->granularity, &self->engine);
    if (rc < 0) {
        raise_new(rc, self);
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static void tracker_dealloc(struct tracker *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc tp_free = (freefunc)PyType_GetSlot(type, Py_tp_free);

    iova_write_tracker_free(self->engine); /* before the memory goes */
    Py_XDECREF(self->memory);
    tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(locate_doc, "_locate($type, buffer, /)\n--\n\n"
                         "The address of a buffer's first byte, and its length in bytes.\n");

static PyObject *tracker_locate(PyObject *type, PyObject *buffer)
{
    struct ib_state *state = ib_state_of_type((PyTypeObject *)type);
    PyObject *memory = state == NULL ? NULL : ib_memory_from_object(state, buffer, false);

    if (memory == NULL) {
        return NULL;
    }
    PyObject *result = Py_BuildValue("KK", (unsigned long long)(uintptr_t)ib_memory_bytes(memory),
                                     (unsigned long long)ib_memory_size(memory));
    Py_DECREF(memory);
    return result;
}

/* ---- start and stop ---- */

static int enter(struct tracker *self)
{
    if (!ib_shared_swap(&self->busy, 0, 1)) {
        PyErr_SetString(
            PyExc_RuntimeError,
            "the write tracker is in use: another thread's call, or a pin object called "
            "from collect(), has not returned");
        return -1;
    }
    return 0;
}

static void leave(struct tracker *self)
{
    uintptr_t started = iova_write_tracker_started(self->engine);

    ib_shared_swap(&self->started, !started, started);
    ib_shared_swap(&self->busy, 1, 0);
}

static void raise_os_error(int error, const char *text)
{
    PyObject *args = Py_BuildValue("is", -error, text);

    if (args != NULL) {
        PyErr_SetObject(PyExc_OSError, args); /* becomes the subclass of its errno */
        Py_DECREF(args);
    }
}

/* What a failed start lacks, in words. */
static const char *reason(enum iova_write_tracker_step step, int error)
{
    switch (step) {
    case IOVA_WRITE_TRACKER_USERFAULTFD:
        if (error == -EPERM) {
            return "userfaultfd is forbidden here, the system call as well as /dev/userfaultfd "
                   "(a container's seccomp profile?)";
        }
        return error == -ENOTSUP || error == -ENOSYS
                   ? "there is no userfaultfd here (write tracking needs Linux 6.7 or later)"
                   : "userfaultfd failed";
    case IOVA_WRITE_TRACKER_API:
        return "userfaultfd has no asynchronous write protection (needs Linux 6.7 or later)";
    case IOVA_WRITE_TRACKER_PAGEMAP:
        return "/proc/self/pagemap cannot be opened (no /proc, or the process changed its user)";
    case IOVA_WRITE_TRACKER_REGISTER:
        if (error == -EBUSY) {
            return "pages of the buffer are tracked already, by another tracker or userfaultfd";
        }
        return error == -EPERM ? "the buffer is a mapping of a file that may not be written"
                               : "the buffer's memory cannot be registered with userfaultfd";
    default:
        return "the buffer's pages cannot be write-protected";
    }
}

PyDoc_STRVAR(start_doc,
             "start($self, /)\n--\n\n"
             "Protect the buffer's pages; from here on writes are seen.\n\n"
             "Does nothing where it is started. In a forked child it begins anew.\n\n"
             "Raises\n"
             "------\n"
             "OSError\n"
             "    Nothing is armed. EBUSY: a page has a tracker already. EPERM: userfaultfd is\n"
             "    forbidden, or the buffer maps a read-only file. Others: what the kernel lacks.\n"
             "RuntimeError\n    Called while another call of this tracker is running.\n");

static PyObject *tracker_start(struct tracker *self, PyObject *unused)
{
    int rc;
    (void)unused;

    if (enter(self) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS rc = iova_write_tracker_start(self->engine);
    Py_END_ALLOW_THREADS enum iova_write_tracker_step step = iova_write_tracker_step(self->engine);
    leave(self);
    if (rc < 0) {
        raise_os_error(rc, reason(step, rc));
        return NULL;
    }
    return ib_none();
}

PyDoc_STRVAR(stop_doc,
             "stop($self, /)\n--\n\n"
             "Take the protection away. Does nothing where it is stopped.\n\n"
             "Writes that were not collected are forgotten; what a bitmap could not take\n"
             "is kept for a collect after the next start.\n\n"
             "Raises\n"
             "------\n"
             "RuntimeError\n    Called while another call of this tracker is running.\n");

static PyObject *tracker_stop(struct tracker *self, PyObject *unused)
{
    (void)unused;

    if (enter(self) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS iova_write_tracker_stop(self->engine);
    Py_END_ALLOW_THREADS leave(self);
    return ib_none();
}

/* ---- collect ---- */

/* Others run during the scans, and may use the bitmap then: on a free-threaded interpreter a thread
 * that is detached has left its critical sections. */
static void detach(void *thread)
{
    *(PyThreadState **)thread = PyEval_SaveThread();
}

static void attach(void *thread)
{
    PyEval_RestoreThread(*(PyThreadState **)thread);
}

static int collect(struct tracker *self, struct ib_bitmap *bitmap,
                   struct iova_bitmap_report *report)
{
    PyThreadState *thread;
    const struct iova_write_tracker_hooks hooks = {detach, attach, ib_poll, &thread};
    struct ib_present present;

    ib_present_begin(&present, bitmap);
    int rc = iova_write_tracker_collect(self->engine, bitmap->engine, &hooks, report);
    ib_present_end(&present);
    return rc;
}

/* Raises what a failed collect says. */
static void raise_collect(struct tracker *self, struct ib_bitmap *bitmap, int error,
                          const struct iova_bitmap_report *report)
{
    switch (iova_write_tracker_step(self->engine)) {
    case IOVA_WRITE_TRACKER_OWNER:
        if (error == -ECHILD) {
            raise_os_error(error, "the write tracker was started by the parent of this process; "
                                  "start() begins anew");
        } else {
            PyErr_SetString(PyExc_RuntimeError, "the write tracker is not started");
        }
        break;
    case IOVA_WRITE_TRACKER_POLL:
    case IOVA_WRITE_TRACKER_MARK:
        ib_raise(self->state, iova_bitmap_geometry(bitmap->engine), error, report, 0, 0);
        break;
    default:
        if (error == -ENOMEM) {
            PyErr_NoMemory();
        } else if (error == -EPERM) {
            raise_os_error(error, "memory of the buffer was mapped anew since start(); what could "
                                  "not be scanned counts as written");
        } else {
            raise_os_error(error, "PAGEMAP_SCAN failed; what it did not scan counts as written");
        }
    }
}

PyDoc_STRVAR(
    collect_doc,
    "collect($self, /, bm)\n--\n\n"
    "Mark in a bitmap the pages written since they were last collected, and arm them again.\n\n"
    "Only what the bitmap covers is looked at; other pages wait. No write is lost: what an error\n"
    "kept from being marked comes with the next collect.\n\n"
    "Parameters\n"
    "----------\n"
    "bm : IOVABitmap\n    Of any geometry; a page of it that a written page overlaps is marked.\n\n"
    "Returns\n"
    "-------\n"
    "int\n    Pages of the bitmap that were clean before. 0 where it covers nothing tracked.\n\n"
    "Raises\n"
    "------\n"
    "PinError\n"
    "    The bitmap's memory could not be pinned. From its iova on, for its length, marks may be\n"
    "    missing: the next collect has them.\n"
    "RuntimeError\n"
    "    Not started, or called while another call of this tracker is running.\n"
    "ValueError\n    The bitmap is freed. Nothing was looked at.\n"
    "OSError\n"
    "    The kernel's scan failed: what it did not scan counts as written at the next collect.\n"
    "    ChildProcessError in a forked child, where the tracker is not started.\n");

static PyObject *tracker_collect(struct tracker *self, PyObject *const *args, Py_ssize_t nargs,
                                 PyObject *kwnames)
{
    static const char *const names[] = {"bm"};
    static const struct ib_signature signature = {"collect", 1, 1, 1, names};
    struct iova_bitmap_report report;
    PyObject *object;

    if (ib_parse(&signature, args, nargs, kwnames, &object) < 0) {
        return NULL;
    }
    if (!PyObject_TypeCheck(object, self->state->bitmap_type)) {
        PyErr_Format(PyExc_TypeError, "bm must be an IOVABitmap, not %R", Py_TYPE(object));
        return NULL;
    }
    struct ib_bitmap *bitmap = (struct ib_bitmap *)object;
    if (enter(self) < 0) {
        return NULL;
    }
    int rc = ib_bitmap_begin(bitmap);
    if (rc == 0) {
        rc = collect(self, bitmap, &report);
        if (rc < 0) {
            raise_collect(self, bitmap, rc, &report);
        }
        ib_bitmap_end(bitmap);
    }
    leave(self);
    return rc < 0 ? NULL : PyLong_FromUnsignedLongLong(report.pages);
}

/* ---- attributes ---- */

static PyObject *get_iova(struct tracker *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(self->iova);
}

static PyObject *get_length(struct tracker *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(ib_memory_size(self->memory));
}

static PyObject *get_granularity(struct tracker *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(self->granularity);
}

static PyObject *get_address(struct tracker *self, void *closure)
{
    (void)closure;
    return PyLong_FromVoidPtr(ib_memory_bytes(self->memory));
}

static PyObject *get_started(struct tracker *self, void *closure)
{
    (void)closure;
    if (ib_shared_swap(&self->busy, 0, 1)) {
        leave(self);
    }
    return PyBool_FromLong((long)ib_shared_get(&self->started));
}

static PyGetSetDef tracker_getset[] = {
    {"iova", (getter)get_iova, NULL, "Where byte 0 of the buffer is.", NULL},
    {"length", (getter)get_length, NULL, "Bytes of the buffer.", NULL},
    {"granularity", (getter)get_granularity, NULL,
     "Bytes that one write is seen as: the size of the buffer's pages.", NULL},
    {"address", (getter)get_address, NULL, "Where byte 0 of the buffer is in this process.", NULL},
    {"started", (getter)get_started, NULL, "True between start() and stop(), in this process.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define METHOD(name, function, flags, doc) {name, (PyCFunction)(void (*)(void))function, flags, doc}

static PyMethodDef tracker_methods[] = {
    METHOD("start", tracker_start, METH_NOARGS, start_doc),
    METHOD("stop", tracker_stop, METH_NOARGS, stop_doc),
    METHOD("collect", tracker_collect, METH_FASTCALL | METH_KEYWORDS, collect_doc),
    METHOD("_locate", tracker_locate, METH_O | METH_CLASS, locate_doc),
    {NULL, NULL, 0, NULL},
};

static PyType_Slot tracker_slots[] = {
    {Py_tp_doc, "_WriteTracker(buffer, iova, granularity)\n--\n\n"
                "What iovabitmap.sources.WriteTracker is made from.\n"},
    {Py_tp_new, tracker_new},
    {Py_tp_dealloc, tracker_dealloc},
    {Py_tp_methods, tracker_methods},
    {Py_tp_getset, tracker_getset},
    {0, NULL},
};

PyType_Spec ib_write_tracker_spec = {
    .name = "iovabitmap._core._WriteTracker",
    .basicsize = sizeof(struct tracker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = tracker_slots,
};
