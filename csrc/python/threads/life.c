/*
 * life.c - the life of a bitmap object: made over memory, held by the operations that run on
 * it, released when it is freed and the last of them has ended; and whose turn it is meanwhile.
 *
 * A thread that is within an operation never waits in free(), be it of the same bitmap or another:
 * so those who wait are never waited for, and two threads that free each other's bitmaps from
 * callbacks go on.
 */
#include "python/module/binding.h"

IB_PER_THREAD unsigned ib_depth;

/* Bytes of IOVA that IB_UNLOCK_BYTES of bitmap stand for, as far as there are so many. */
static uint64_t unlock_length(const struct iova_bitmap_geometry *geometry)
{
    const uint64_t pages = (uint64_t)IB_UNLOCK_BYTES * 8;

    return geometry->page_size > UINT64_MAX / pages ? UINT64_MAX : geometry->page_size * pages;
}

struct ib_bitmap *ib_bitmap_make(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages, PyObject *pin)
{
    struct iova_bitmap_options options = {.window_pages = window_pages, .poll = ib_poll};
    if (ib_pin_ops(pin, &options.pin) < 0) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct ib_bitmap *self = (struct ib_bitmap *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->memory = Py_NewRef(memory);
    self->pin = Py_NewRef(pin);
    self->process = ib_process();
    self->unlock_length = unlock_length(geometry);
    options.pin_context = self;
    int rc =
        iova_bitmap_alloc(geometry->iova, geometry->length, geometry->page_size,
                          ib_memory_bytes(memory), ib_memory_size(memory), &options, &self->engine);
    if (rc < 0) { /* the geometry and the size were checked */
        PyErr_NoMemory();
        Py_CLEAR(self);
    }
    return self;
}

struct ib_bitmap *ib_bitmap_over(PyTypeObject *type, struct ib_state *state,
                                 const struct iova_bitmap_geometry *geometry, PyObject *memory,
                                 uint64_t window_pages)
{
    PyObject *none = PyUnicode_InternFromString("none");
    struct ib_bitmap *made = NULL;

    if (none != NULL) {
        made = ib_bitmap_make(type, state, geometry, memory, window_pages, none);
        Py_DECREF(none);
    }
    return made;
}

int ib_raise_freed(void)
{
    PyErr_SetString(PyExc_ValueError, "operation on a freed IOVABitmap");
    return -1;
}

/* ---- freeing ---- */

void ib_bitmap_release(struct ib_bitmap *self)
{
    PyObject *pending = ib_take_exception();

    ib_depth++; /* unpin() of a pin object may free bitmaps too: it must not wait for itself */
    if (self->engine != NULL) {
        iova_bitmap_release(self->engine);
    }
    ib_memory_let_go(&self->memory);
    ib_depth--;
    ib_shared_add(&self->uses, IB_RELEASED);
    ib_queue_wake(&self->queue);
    ib_put_exception(pending, NULL);
}

void ib_bitmap_drop(struct ib_bitmap *self)
{
    uintptr_t uses;

    do {
        uses = ib_shared_get(&self->uses);
        if ((uses & IB_FREED) != 0) {
            return;
        }
    } while (!ib_shared_swap(&self->uses, uses, uses | IB_FREED));
    if (uses == 0) {
        ib_bitmap_release(self);
    }
}

static bool is_released(void *self)
{
    return (ib_shared_get(&((struct ib_bitmap *)self)->uses) & IB_RELEASED) != 0;
}

/* At the end of the interpreter its other threads are stopped where they are. */
static bool is_finalizing(void)
{
    PyObject *function = PySys_GetObject("is_finalizing"); /* borrowed */
    PyObject *answer = function == NULL ? NULL : PyObject_CallNoArgs(function);
    bool finalizing = answer != Py_False;

    PyErr_Clear();
    Py_XDECREF(answer);
    return finalizing;
}

/* Whether the operations in progress are all of threads that go on, and none of this one. A child
 * of fork() has only the thread that forked. */
static bool may_wait(const struct ib_bitmap *self)
{
    return ib_depth == 0 && self->process == ib_process() && !is_finalizing();
}

int ib_bitmap_free(struct ib_bitmap *self)
{
    ib_bitmap_drop(self);
    if (is_released(self) || !may_wait(self)) {
        return 0;
    }
    return ib_queue_wait(&self->queue, is_released, self);
}

/* ---- two bitmaps ---- */

int ib_bitmap_begin_both(struct ib_bitmap *self, struct ib_bitmap *other)
{
    if (ib_bitmap_begin(self) < 0) {
        return -1;
    }
    if (other != NULL && ib_bitmap_begin(other) < 0) {
        ib_bitmap_end(self);
        return -1;
    }
    return 0;
}

void ib_bitmap_end_both(struct ib_bitmap *self, struct ib_bitmap *other)
{
    if (other != NULL) {
        ib_bitmap_end(other);
    }
    ib_bitmap_end(self);
}

int ib_bitmap_check_type(struct ib_bitmap *self, PyObject *other, const char *name)
{
    if (!PyObject_TypeCheck(other, self->state->bitmap_type)) {
        PyErr_Format(PyExc_TypeError, "%s must be an IOVABitmap, not %R", name, Py_TYPE(other));
        return -1;
    }
    return 0;
}

/* ---- the interpreter, and the present window ---- */

static PyThreadState *unlock(void)
{
    PyThreadState *thread = PyEval_SaveThread();

    ib_poll_detached(thread);
    return thread;
}

PyThreadState *ib_bitmap_unlock(struct ib_bitmap *self, uint64_t bytes)
{
    return bytes >= IB_UNLOCK_BYTES && PyUnicode_Check(self->pin) ? unlock() : NULL;
}

PyThreadState *ib_bitmap_unlock_both(struct ib_bitmap *self, struct ib_bitmap *other,
                                     uint64_t bytes)
{
    return PyUnicode_Check(other->pin) ? ib_bitmap_unlock(self, bytes) : NULL;
}

void ib_bitmap_relock(PyThreadState *thread)
{
    if (thread != NULL) {
        ib_poll_detached(NULL);
        PyEval_RestoreThread(thread);
    }
}

/* Whether this thread's operation has the present window: it was interrupted by a signal, whose
 * handler uses the bitmap. The engine is ready for that, as it is for a pin object's. */
static bool is_mover(struct ib_bitmap *self)
{
    return ib_shared_get(&self->mover) == (uintptr_t)PyThread_get_thread_ident();
}

static void set_mover(struct ib_bitmap *self, uintptr_t thread)
{
    if (thread != 0) { /* before it is seen that there is a mover */
        ib_shared_put(&self->mover_process, (uintptr_t)ib_process());
    }
    ib_shared_put(&self->mover, thread);
}

static void refuse_the_window(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "the present window is in use by a thread that does not run any more");
}

/* Where another thread has the present window and will never give it back, since it was left behind
 * by fork() or stopped at the end of the interpreter: -1 and RuntimeError. What it was about to do
 * to the window is half done, so nobody can go on in its place. */
static int check_that_the_mover_lives(struct ib_bitmap *self)
{
    if (ib_shared_get(&self->mover) == 0) {
        return 0;
    }
    if (ib_shared_get(&self->mover_process) == (uintptr_t)ib_process() && !is_finalizing()) {
        return 0;
    }
    refuse_the_window();
    return -1;
}

#ifdef Py_GIL_DISABLED

/* Whether a thread that fork() left behind has `present`, or was about to be handed it: then the
 * mutex is locked though no thread of this process has tried that yet. */
static bool is_left_locked(struct ib_bitmap *self)
{
    const uintptr_t process = (uintptr_t)ib_process();

    if (ib_shared_get(&self->present_process) == process) {
        return false;
    }
    bool locked = ib_is_locked(&self->present);
    /* Look again: another thread of this process may have come first, and locked it. */
    if (locked && ib_shared_get(&self->present_process) != process) {
        return true;
    }
    ib_shared_put(&self->present_process, process);
    return false;
}

/* With a pin object, which may want anything, a critical section: like the GIL it is let go where
 * Python code waits. */
int ib_turn_begin_slow(struct ib_turn *turn, uint64_t length)
{
    struct ib_bitmap *self = turn->bitmap;

    turn->thread = NULL;
    turn->nested = is_mover(self);
    if (turn->nested) {
        return 0;
    }
    if (!PyUnicode_Check(self->pin)) {
        PyCriticalSection_Begin(&turn->section, (PyObject *)self);
        return 0;
    }
    if (check_that_the_mover_lives(self) < 0) {
        return -1;
    }
    if (is_left_locked(self)) {
        refuse_the_window();
        return -1;
    }
    PyMutex_Lock(&self->present);
    set_mover(self, (uintptr_t)PyThread_get_thread_ident());
    if (length >= self->unlock_length) {
        turn->thread = unlock();
    }
    return 0;
}

void ib_turn_end_slow(struct ib_turn *turn)
{
    struct ib_bitmap *self = turn->bitmap;

    ib_bitmap_relock(turn->thread);
    if (turn->nested) {
        return;
    }
    if (PyUnicode_Check(self->pin)) {
        set_mover(self, 0);
        PyMutex_Unlock(&self->present);
    } else {
        PyCriticalSection_End(&turn->section);
    }
}

#else

/* A thread that wants to be the mover. */
struct claim {
    struct ib_bitmap *bitmap;
    uintptr_t thread;
    bool taken;
};

/* Also true where the thread is the mover by now: the handler of a signal that came while it waited
 * waits here too. */
static bool take(void *context)
{
    struct claim *claim = context;
    uintptr_t mover = claim->bitmap->mover;

    claim->taken = mover == 0;
    if (claim->taken) {
        set_mover(claim->bitmap, claim->thread);
    }
    return claim->taken || mover == claim->thread;
}

/* To who waits, if anybody does. */
static void pass_on(struct ib_bitmap *self)
{
    set_mover(self, 0);
    ib_queue_wake(&self->queue);
}

int ib_turn_begin_slow(struct ib_turn *turn, uint64_t length)
{
    struct ib_bitmap *self = turn->bitmap;
    struct claim claim = {self, (uintptr_t)PyThread_get_thread_ident(), false};

    turn->thread = NULL;
    if (is_mover(self)) {
        return 0;
    }
    if (check_that_the_mover_lives(self) < 0) {
        return -1;
    }
    int rc = take(&claim) ? 0 : ib_queue_wait(&self->queue, take, &claim);
    if (rc == 0 && claim.taken && length >= self->unlock_length && PyUnicode_Check(self->pin)) {
        turn->thread = unlock();
    } else if (claim.taken) { /* nobody comes between as long as the GIL is held */
        pass_on(self);
    }
    return rc;
}

void ib_turn_end_slow(struct ib_turn *turn)
{
    ib_bitmap_relock(turn->thread);
    pass_on(turn->bitmap);
}

#endif
