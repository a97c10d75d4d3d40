/*
 * failing.c - makes the allocations of one shared object fail, each at its turn: those that it asks
 * the system for, by standing before the C library's functions (LD_PRELOAD), and those that it asks
 * the interpreter for, by the interpreter's own hooks.
 *
 * Of the latter count all that are made while the shared object waits for a function it called,
 * NumPy's too, but not those of Python code that it called: what the evaluation loop does without
 * memory is the interpreter's affair.
 *
 * A test compiles and preloads this; `iova_failing` is its whole interface. Writing to it needs no
 * memory, so that a plan can be ended while every allocation fails. A C program includes it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Calls count from 1 while `armed`; those from `first` to `last` fail. */
struct failing {
    int64_t armed;
    int64_t first;
    int64_t last;
    int64_t count;
    int64_t native;     /* how many of them were the shared object's */
    int64_t code_start; /* where its code is */
    int64_t code_end;
};
extern struct failing iova_failing;
struct failing iova_failing;

static bool is_ours(const void *code)
{
    int64_t address = (int64_t)(intptr_t)code;

    return address >= iova_failing.code_start && address < iova_failing.code_end;
}

static bool counts(void)
{
    iova_failing.count++;
    return iova_failing.count >= iova_failing.first && iova_failing.count <= iova_failing.last;
}

/* ---- the interpreter's ---- */

static bool runs_python_code(const void *code)
{
    Dl_info info;

    return dladdr(code, &info) != 0 && info.dli_sname != NULL &&
           (strncmp(info.dli_sname, "_PyEval_", 8) == 0 ||
            strcmp(info.dli_sname, "_PyFunction_Vectorcall") == 0);
}

/* Whether the shared object stands nearer on the stack than any Python code. */
static bool on_our_behalf(void)
{
    enum { DEEPEST = 100 };
    void *calls[DEEPEST];
    int n = backtrace(calls, DEEPEST);

    for (int i = 0; i < n; i++) {
        if (is_ours(calls[i])) {
            return true;
        }
        if (runs_python_code(calls[i])) {
            return false;
        }
    }
    return false;
}

static bool fails(void)
{
    if (!iova_failing.armed) {
        return false;
    }
    iova_failing.armed = 0; /* looking at the stack may allocate */
    bool ours = on_our_behalf();
    iova_failing.armed = 1;
    return ours && counts();
}

struct allocator { /* PyMemAllocatorEx */
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *bytes, size_t size);
    void (*free)(void *context, void *bytes);
};
enum { DOMAINS = 3 };
static struct allocator originals[DOMAINS];

static void *hook_malloc(void *context, size_t size)
{
    const struct allocator *original = context;
    return fails() ? NULL : original->malloc(original->context, size);
}

static void *hook_calloc(void *context, size_t count, size_t size)
{
    const struct allocator *original = context;
    return fails() ? NULL : original->calloc(original->context, count, size);
}

static void *hook_realloc(void *context, void *bytes, size_t size)
{
    const struct allocator *original = context;
    return fails() ? NULL : original->realloc(original->context, bytes, size);
}

static void hook_free(void *context, void *bytes)
{
    const struct allocator *original = context;
    original->free(original->context, bytes);
}

void iova_failing_hook(void (*get)(int, struct allocator *), void (*set)(int, struct allocator *));

/* Once, with the addresses of PyMem_GetAllocator and PyMem_SetAllocator. */
void iova_failing_hook(void (*get)(int, struct allocator *), void (*set)(int, struct allocator *))
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        get(domain, &originals[domain]);
        struct allocator hooked = {&originals[domain], hook_malloc, hook_calloc, hook_realloc,
                                   hook_free};
        set(domain, &hooked);
    }
}

/* ---- the system's, where the shared object calls them ---- */

static bool native_fails(const void *from)
{
    if (!iova_failing.armed || !is_ours(from)) {
        return false;
    }
    iova_failing.native++;
    return counts();
}

#define NATIVE_FAILS() native_fails(__builtin_return_address(0))

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *bytes, size_t size);

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t size)
{
    return NATIVE_FAILS() ? no_memory() : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return NATIVE_FAILS() ? no_memory() : __libc_calloc(count, size);
}

void *realloc(void *bytes, size_t size)
{
    return NATIVE_FAILS() ? no_memory() : __libc_realloc(bytes, size);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (NATIVE_FAILS()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
#ifdef __s390x__ /* takes them in memory */
    const unsigned long all[] = {(unsigned long)address,    size,
                                 (unsigned long)protection, (unsigned long)flags,
                                 (unsigned long)fd,         (unsigned long)offset};
    return (void *)syscall(SYS_mmap, all);
#else
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
#endif
}

void *mremap(void *address, size_t old_size, size_t size, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    void *wanted = va_arg(more, void *);
    va_end(more);
    if (NATIVE_FAILS()) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, address, old_size, size, flags, wanted);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    unsigned mode = va_arg(more, unsigned);
    va_end(more);
    if (NATIVE_FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int memfd_create(const char *name, unsigned flags)
{
    if (NATIVE_FAILS()) {
        errno = EMFILE;
        return -1;
    }
    return (int)syscall(SYS_memfd_create, name, flags);
}

FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*original)(const char *, const char *);

    if (NATIVE_FAILS()) {
        errno = EMFILE;
        return NULL;
    }
    if (original == NULL) {
        *(void **)&original = dlsym(RTLD_NEXT, "fopen");
    }
    return original(path, mode);
}
